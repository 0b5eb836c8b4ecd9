// Products with a frozen matrix in bfloat16, summed in f32: y = x times the transpose of W, and its gradient with respect to x, which is
// y times W. Both factors are rounded to nearest even; W may be stored as f32 and is then rounded on its way.
//
// W stays row-major, so that one copy serves both directions. Columns of the output are computed 32 at a time: what they need of W is put
// together in pairs along the depth (the dimension that is summed), as the instruction reads it, in a panel that stays in the first-level
// cache while all rows of x pass by. What a row of y is does not depend on the other rows: sums run along the depth, whatever M is.

#include "kernels.h"
#include "simd.h"
#include <stdlib.h>

#ifdef __AVX512BF16__

enum { PANEL = 32, PARTS = PANEL / LANES, DEPTH = 512, BLOCK = 32, PAIRS = BLOCK / 2, MAX_TILE = 8, ROUNDED_ROWS_PER_TASK = 16 };

/** Two neighbours along the depth. */
typedef uint32_t pair_t __attribute__((may_alias));

typedef struct {
  const Bfloat16Matrix *w;
  int transposed;
  const float *x;
  float *y;
  size_t M, width, depth;
  size_t padded;     // depth in whole blocks, zeros beyond
  uint16_t *rounded; // x, [M, DEPTH] of each part of the depth
} Product;

INLINE __mmask16 first_lanes(size_t count) { return count >= LANES ? 0xffff : (__mmask16)((1u << count) - 1); }

/** 32 values, the first `count` of them read, the others zero. */
INLINE __m512i round_block(const float *p, size_t count) {
  const __m512 low = _mm512_maskz_loadu_ps(first_lanes(count), p);
  const __m512 high = _mm512_maskz_loadu_ps(count > LANES ? first_lanes(count - LANES) : 0, p + LANES);
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/** W[n, k ... k + 31]; zeros outside. */
INLINE __m512i load_weights(const Bfloat16Matrix *w, size_t n, size_t k) {
  if (n >= w->N) return _mm512_setzero_si512();
  const size_t at = n * w->K + k, count = w->K - k;
  if (w->is_float) return round_block((const float *)w->values + at, count);
  return _mm512_maskz_loadu_epi16(count >= BLOCK ? 0xffffffff : (1u << count) - 1, (const uint16_t *)w->values + at);
}

/** The pairs of a and b in turn. */
INLINE void interleave_pairs(__m512i a, __m512i b, __m512i out[2]) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  out[0] = _mm512_permutex2var_epi32(a, low, b);
  out[1] = _mm512_permutex2var_epi32(a, _mm512_add_epi32(low, _mm512_set1_epi32(8)), b);
}

/** Columns of the output are rows of W: 16 pairs of 16 rows are transposed by four perfect shuffles. */
INLINE void pack_rows(const Bfloat16Matrix *w, size_t column, size_t start, size_t end, pair_t *panel) {
  for (size_t k = start; k < end; k += BLOCK, panel += PAIRS * PANEL)
    for (int part = 0; part < PARTS; part++) {
      __m512i a[LANES], b[LANES];
      for (int i = 0; i < LANES; i++) a[i] = load_weights(w, column + part * LANES + i, k);
      for (int round = 0; round < 2; round++) {
        for (int i = 0; i < LANES / 2; i++) interleave_pairs(a[i], a[i + LANES / 2], b + 2 * i);
        for (int i = 0; i < LANES / 2; i++) interleave_pairs(b[i], b[i + LANES / 2], a + 2 * i);
      }
      for (int i = 0; i < PAIRS; i++) _mm512_storeu_si512(panel + i * PANEL + part * LANES, a[i]);
    }
}

/** Columns of the output are columns of W: two rows make the pairs. */
INLINE void pack_columns(const Bfloat16Matrix *w, size_t column, size_t start, size_t end, pair_t *panel) {
  uint16_t order[2 * BLOCK];
  for (int i = 0; i < BLOCK; i++) order[2 * i] = i, order[2 * i + 1] = BLOCK + i;
  const __m512i low = _mm512_loadu_si512(order), high = _mm512_loadu_si512(order + BLOCK);
  for (size_t n = start; n < end; n += 2, panel += PANEL) {
    const __m512i even = load_weights(w, n, column), odd = load_weights(w, n + 1, column);
    _mm512_storeu_si512(panel, _mm512_permutex2var_epi16(even, low, odd));
    _mm512_storeu_si512(panel + LANES, _mm512_permutex2var_epi16(even, high, odd));
  }
}

/** Adds one part of the depth to `rows` rows of y; the first part adds to zero. */
INLINE void tile(const pair_t *panel, size_t pairs, const pair_t *x, int rows, int is_first, float *y, size_t width, const __mmask16 *columns) {
  __m512 sums[MAX_TILE][PARTS];
  for (int r = 0; r < rows; r++)
    for (int part = 0; part < PARTS; part++)
      sums[r][part] = is_first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(columns[part], y + r * width + part * LANES);
  for (size_t i = 0; i < pairs; i++) {
    __m512bh w[PARTS];
    for (int part = 0; part < PARTS; part++) w[part] = (__m512bh)_mm512_loadu_si512(panel + i * PANEL + part * LANES);
    for (int r = 0; r < rows; r++) {
      const __m512bh broadcast = (__m512bh)_mm512_set1_epi32((int)x[r * pairs + i]);
      for (int part = 0; part < PARTS; part++) sums[r][part] = _mm512_dpbf16_ps(sums[r][part], w[part], broadcast);
    }
  }
  for (int r = 0; r < rows; r++)
    for (int part = 0; part < PARTS; part++) _mm512_mask_storeu_ps(y + r * width + part * LANES, columns[part], sums[r][part]);
}

static void tiles(const pair_t *panel, size_t pairs, const pair_t *x, size_t M, int is_first, float *y, size_t width, const __mmask16 *columns) {
  size_t m = 0;
  for (; m + 8 <= M; m += 8) tile(panel, pairs, x + m * pairs, 8, is_first, y + m * width, width, columns);
  if (M - m >= 4) tile(panel, pairs, x + m * pairs, 4, is_first, y + m * width, width, columns), m += 4;
  if (M - m >= 2) tile(panel, pairs, x + m * pairs, 2, is_first, y + m * width, width, columns), m += 2;
  if (M - m >= 1) tile(panel, pairs, x + m * pairs, 1, is_first, y + m * width, width, columns);
}

static size_t end_of_part(const Product *p, size_t start) { return start + DEPTH < p->padded ? start + DEPTH : p->padded; }

static void round_task(void *data, size_t task) {
  const Product *p = data;
  const size_t first = task * ROUNDED_ROWS_PER_TASK;
  for (size_t m = first; m < first + ROUNDED_ROWS_PER_TASK && m < p->M; m++)
    for (size_t start = 0; start < p->padded; start += DEPTH) {
      const size_t end = end_of_part(p, start);
      uint16_t *out = p->rounded + start * p->M + m * (end - start);
      for (size_t k = start; k < end; k += BLOCK, out += BLOCK)
        _mm512_storeu_si512(out, round_block(p->x + m * p->depth + k, p->depth - k));
    }
}

static void panel_task(void *data, size_t task) {
  const Product *p = data;
  const size_t column = task * PANEL, count = p->width - column;
  const __mmask16 columns[PARTS] = {first_lanes(count), count > LANES ? first_lanes(count - LANES) : 0};
  pair_t *panel = aligned_alloc(64, DEPTH / 2 * PANEL * sizeof(pair_t));
  for (size_t start = 0; start < p->padded; start += DEPTH) {
    const size_t end = end_of_part(p, start);
    if (p->transposed) pack_columns(p->w, column, start, end, panel);
    else pack_rows(p->w, column, start, end, panel);
    const pair_t *x = (const pair_t *)(p->rounded + start * p->M);
    tiles(panel, (end - start) / 2, x, p->M, start == 0, p->y + column, p->width, columns);
  }
  free(panel);
}

void bfloat16_linear(const Bfloat16Matrix *w, int transposed, const float *x, size_t M, float *y, ParallelFor *parallel, void *pool) {
  const size_t depth = transposed ? w->N : w->K, width = transposed ? w->K : w->N, padded = (depth + BLOCK - 1) / BLOCK * BLOCK;
  Product product = {w, transposed, x, y, M, width, depth, padded, aligned_alloc(64, M * padded * sizeof(uint16_t))};
  parallel(pool, round_task, (M + ROUNDED_ROWS_PER_TASK - 1) / ROUNDED_ROWS_PER_TASK, &product);
  parallel(pool, panel_task, (width + PANEL - 1) / PANEL, &product);
  free(product.rounded);
}

#endif
