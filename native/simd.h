// Vectors of LANES floats: what the compiler makes of them depends on the instruction set that the file is compiled for.

#pragma once
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#ifdef __AVX512F__
#define LANES 16
#else
#define LANES 8
#endif

typedef float vec __attribute__((vector_size(LANES * 4), aligned(4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4), aligned(4)));

INLINE vec load(const float *p) { return *(const vec *)p; }
/** LANES values of f16. */
INLINE vec load_half(const uint16_t *p) {
#if LANES == 16
  return (vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#else
  return (vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#endif
}
INLINE void store(float *p, vec v) { *(vec *)p = v; }
INLINE vec splat(float x) { return (vec){} + x; }
/** a * b + c, rounded once. */
INLINE vec fma_(vec a, vec b, vec c) {
#if LANES == 16
  return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#else
  return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#endif
}
INLINE vec max_(vec a, vec b) {
#if LANES == 16
  return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#else
  return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#endif
}

/** [0, 1, ..., LANES - 1] */
INLINE ivec lane_index(void) {
  ivec out;
  for (int i = 0; i < LANES; i++) out[i] = i;
  return out;
}

/** The sum of the lanes, always in the same order. */
INLINE float sum_lanes(vec v) {
  float lanes[LANES];
  store(lanes, v);
  for (int width = LANES / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
  return lanes[0];
}

INLINE float max_lanes(vec v) {
  float lanes[LANES];
  store(lanes, v);
  float out = lanes[0];
  for (int i = 1; i < LANES; i++) out = lanes[i] > out ? lanes[i] : out;
  return out;
}

/** e^x to 2 units in the last place for x in [-87, 88]; 0 below. (Cephes' expf: range reduction by ln 2, polynomial of degree 5.) */
INLINE vec exp_(vec x) {
  const vec low = splat(-87.3f);
  ivec tiny = x < low;
  x = max_(x, low);
  vec n = fma_(x, splat(1.44269504f), splat(12582912.0f)); // the rounded exponent, in the low bits
  ivec exponent = (ivec)n << 23;
  n -= 12582912.0f;
  vec r = fma_(n, splat(-0.693359375f), x);
  r = fma_(n, splat(2.12194440e-4f), r);
  vec p = splat(1.9875691500e-4f);
  p = fma_(p, r, splat(1.3981999507e-3f));
  p = fma_(p, r, splat(8.3334519073e-3f));
  p = fma_(p, r, splat(4.1665795894e-2f));
  p = fma_(p, r, splat(1.6666665459e-1f));
  p = fma_(p, r, splat(5.0000001201e-1f));
  p = fma_(p, r * r, r + 1.0f);
  return (vec)(((ivec)p + exponent) & ~tiny);
}
