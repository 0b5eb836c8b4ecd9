// What the custom operators (operators.c) compute, free of the runtime: plain arrays, row-major, f32 unless said otherwise.

#pragma once
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

/** Calls task(data, i) for each i in [0, count), on several threads; returns when all are done. */
typedef void ParallelFor(void *pool, void (*task)(void *data, size_t i), size_t count, void *data);

/** A matrix [N, K] in the packed layout of quantized-linear.c. */
typedef struct {
  const uint8_t *packed;
  size_t N, K;
  int bits; // 4 or 8
  int half; // whether scales and offsets are f16
} QuantizedMatrix;

/** Bytes of one block of a panel. */
size_t panel_block_bytes(int bits, int half);

/** y[M, N] = x[M, K] times the transpose of w. */
void quantized_linear(const QuantizedMatrix *w, const float *x, size_t M, float *y, ParallelFor *parallel, void *pool);

/** A matrix [N, K], row-major. */
typedef struct {
  const void *values; // bfloat16, or f32
  size_t N, K;
  int is_float;
} Bfloat16Matrix;

/** y[M, N] = x[M, K] times the transpose of w, or `transposed` y[M, K] = x[M, N] times w. Only where AVX512-BF16 is compiled for. */
void bfloat16_linear(const Bfloat16Matrix *w, int transposed, const float *x, size_t M, float *y, ParallelFor *parallel, void *pool);

/** Rows of B sequences, S new tokens each. */
typedef struct {
  size_t B, S, heads, kv_heads, head_size;
  size_t capacity; // positions in a row of `keys` and `values`
  size_t window;   // how many keys up to its own a token sees; 0: all
  const float *q, *k, *v; // of token i at q + i * q_stride, k + i * kv_stride, v + i * kv_stride
  size_t q_stride, kv_stride;
  float *keys, *values;         // [B, kv_heads, capacity, head_size]; the new tokens' are written
  const int32_t *last_position; // [B], after this run
  const float *cos, *sin;       // [capacity, head_size / 2]
  float *out;                   // [B, S, heads, head_size]
} Attention;

/** head_size must be a multiple of 16. */
void cached_attention(const Attention *a, ParallelFor *parallel, void *pool);

/** out = y + x A B, a group of projections side by side. */
typedef struct {
  size_t B, S, K, N, rank, projections;
  const float *y, *x;      // [B, S, N], [B, S, K]
  const int32_t *adapters; // [B]: index of each sequence's adapter, negative for none
  int half;                // whether a and b are f16, else f32
  const void *a;           // [adapters, K, projections * rank]
  const void *b[3];        // [adapters, rank, outputs] of each projection
  size_t outputs[3];
  float *out; // [B, S, N]
} LowRankUpdate;

/** Rounded to nearest; beyond 65,504 becomes infinity. */
EXPORT void float_to_half(const float *values, uint16_t *out, size_t count);

void low_rank_update(const LowRankUpdate *u, ParallelFor *parallel, void *pool);

/** y[M, width] = silu(x[M, :width]) * x[M, width:]. */
void silu_gated(const float *x, size_t M, size_t width, float *y, ParallelFor *parallel, void *pool);
