// y[M, N] = x[M, K] times the transpose of a matrix W[N, K] in 4 or 8 bits, blocks of 32 along K:
//   W = scale * code + offset, code unsigned.
// x is rounded to int8, a scale for each row and block of 32; sums within a block are exact integers. What a row of y is does not
// depend on the other rows: all sums run in one order, whatever M is.
//
// Packed weights: panels of 32 rows of W, [N / 32, K / 32], the rows beyond N and the columns beyond K zero. A panel's block is
//   codes   8 groups of 4 columns, each [32 rows, 4 columns]; 4 bits: group 2j in the low, 2j + 1 in the high half of a byte
//   scales  [32] and offsets [32], f16 or f32.

#include "kernels.h"
#include "simd.h"
#include <stdlib.h>

enum { PANEL = 32, BLOCK = 32, GROUPS = 8, PARTS = PANEL / LANES, MAX_TILE = 8, MAX_TASKS = 32 };

typedef struct {
  const int8_t *codes;  // [M, blocks * 32]
  const float *scales;  // [M, blocks]
  const float *sums;    // [M, blocks]: scale * sum of the block's codes
} Activations;

/** 4 codes of a row of x. */
typedef int32_t group_t __attribute__((may_alias));

size_t panel_block_bytes(int bits, int half) { return PANEL * BLOCK * bits / 8 + 2 * PANEL * (half ? 2 : 4); }

/** Rounds 32 values to int8: their scale, and the sum of the codes in `sum`. */
INLINE float quantize_block(const float *x, int8_t *codes, int32_t *sum) {
#if LANES == 16
  const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
  const float scale = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b))) / 127;
  const __m512 inverse = _mm512_set1_ps(scale == 0 ? 0 : 1 / scale);
  const __m512i p = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse)), q = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
  _mm_storeu_si128((__m128i *)codes, _mm512_cvtepi32_epi8(p));
  _mm_storeu_si128((__m128i *)(codes + 16), _mm512_cvtepi32_epi8(q));
  *sum = _mm512_reduce_add_epi32(_mm512_add_epi32(p, q));
#else
  vec largest = splat(0);
  for (int i = 0; i < BLOCK; i += LANES) largest = max_(largest, max_(load(x + i), -load(x + i)));
  const float scale = max_lanes(largest) / 127;
  const float inverse = scale == 0 ? 0 : 1 / scale;
  ivec total = {};
  for (int i = 0; i < BLOCK; i += LANES) {
    const __m256i q = _mm256_cvtps_epi32((__m256)(load(x + i) * inverse));
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
    _mm_storel_epi64((__m128i *)(codes + i), _mm_packs_epi16(words, words));
    total += (ivec)q;
  }
  *sum = 0;
  for (int i = 0; i < LANES; i++) *sum += total[i];
#endif
  return scale;
}

/** Rounds one row [K] to int8. */
static void quantize_row(const float *x, size_t K, int8_t *codes, float *scales, float *sums) {
  for (size_t start = 0, block = 0; start < K; start += BLOCK, block++) {
    float padded[BLOCK] = {0};
    const int whole = K - start >= BLOCK;
    if (!whole) memcpy(padded, x + start, (K - start) * sizeof(float));
    int32_t sum;
    scales[block] = quantize_block(whole ? x + start : padded, codes + start, &sum);
    sums[block] = scales[block] * (float)sum;
  }
}

#if LANES == 16

INLINE __m512 load_factors(const uint8_t *p, int half) {
  return half ? _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)) : _mm512_loadu_ps(p);
}

/** Codes of groups 2 * pair and 2 * pair + 1 for the 16 rows of a part. */
INLINE void unpack(const uint8_t *codes, int bits, int pair, int part, __m512i out[2]) {
  if (bits == 8) {
    out[0] = _mm512_loadu_si512(codes + pair * 256 + part * 64);
    out[1] = _mm512_loadu_si512(codes + pair * 256 + 128 + part * 64);
  } else {
    const __m512i low = _mm512_set1_epi8(15), both = _mm512_loadu_si512(codes + pair * 128 + part * 64);
    out[0] = _mm512_and_si512(both, low);
    out[1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
  }
}

/** `rows` rows of y for one panel: each broadcast of x meets all 32 rows of W. */
INLINE void tile(const uint8_t *panel, size_t blocks, int bits, int half, Activations x, size_t first, int rows, float *out, size_t stride) {
  const size_t bytes = panel_block_bytes(bits, half), code_bytes = PANEL * BLOCK * bits / 8, factor_bytes = half ? 2 : 4;
  __m512 sums[MAX_TILE][PARTS];
  for (int r = 0; r < rows; r++)
    for (int part = 0; part < PARTS; part++) sums[r][part] = _mm512_setzero_ps();
  for (size_t block = 0; block < blocks; block++, panel += bytes) {
    __m512i products[MAX_TILE][PARTS];
    for (int r = 0; r < rows; r++)
      for (int part = 0; part < PARTS; part++) products[r][part] = _mm512_setzero_si512();
    for (int pair = 0; pair < GROUPS / 2; pair++) {
      __m512i codes[PARTS][2];
      for (int part = 0; part < PARTS; part++) unpack(panel, bits, pair, part, codes[part]);
      for (int r = 0; r < rows; r++) {
        const group_t *group = (const group_t *)(x.codes + ((first + r) * blocks + block) * BLOCK) + pair * 2;
        for (int i = 0; i < 2; i++) {
          const __m512i broadcast = _mm512_set1_epi32(group[i]);
          for (int part = 0; part < PARTS; part++)
            products[r][part] = _mm512_dpbusd_epi32(products[r][part], codes[part][i], broadcast);
        }
      }
    }
    for (int part = 0; part < PARTS; part++) {
      const uint8_t *factors = panel + code_bytes + part * LANES * factor_bytes;
      const __m512 scales = load_factors(factors, half), offsets = load_factors(factors + PANEL * factor_bytes, half);
      for (int r = 0; r < rows; r++) {
        const size_t at = (first + r) * blocks + block;
        const __m512 scale = _mm512_mul_ps(scales, _mm512_set1_ps(x.scales[at]));
        sums[r][part] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products[r][part]), scale, sums[r][part]);
        sums[r][part] = _mm512_fmadd_ps(offsets, _mm512_set1_ps(x.sums[at]), sums[r][part]);
      }
    }
  }
  for (int r = 0; r < rows; r++)
    for (int part = 0; part < PARTS; part++) _mm512_storeu_ps(out + r * stride + part * LANES, sums[r][part]);
}

#else

INLINE __m256 load_factors(const uint8_t *p, int half) {
  return half ? _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)) : _mm256_loadu_ps((const float *)p);
}

/** The 8 rows of a part times one block of x. No sum of 16 bits overflows: 16 products of at most 15 * 127. */
INLINE __m256i block_products(const uint8_t *codes, int bits, const group_t *group) {
  const __m256i low_half = _mm256_set1_epi8(15);
  __m256i low = _mm256_setzero_si256(), high = low;
  for (int i = 0; i < GROUPS; i++) {
    const __m256i x = _mm256_set1_epi32(group[i]);
    const __m256i byte = _mm256_loadu_si256((const __m256i *)(codes + (bits == 8 ? i : i / 2) * PANEL * 4));
    if (bits == 8) {
      low = _mm256_add_epi16(low, _mm256_maddubs_epi16(_mm256_and_si256(byte, low_half), x));
      high = _mm256_add_epi16(high, _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(byte, 4), low_half), x));
    } else {
      const __m256i nibbles = _mm256_and_si256(i % 2 == 0 ? byte : _mm256_srli_epi16(byte, 4), low_half);
      low = _mm256_add_epi16(low, _mm256_maddubs_epi16(nibbles, x));
    }
  }
  const __m256i sum = _mm256_madd_epi16(low, _mm256_set1_epi16(1));
  return bits == 8 ? _mm256_add_epi32(sum, _mm256_madd_epi16(high, _mm256_set1_epi16(16))) : sum;
}

/** `rows` rows of y for one panel. */
INLINE void tile(const uint8_t *panel, size_t blocks, int bits, int half, Activations x, size_t first, int rows, float *out, size_t stride) {
  const size_t bytes = panel_block_bytes(bits, half), code_bytes = PANEL * BLOCK * bits / 8, factor_bytes = half ? 2 : 4;
  __m256 sums[MAX_TILE][PARTS];
  for (int r = 0; r < rows; r++)
    for (int part = 0; part < PARTS; part++) sums[r][part] = _mm256_setzero_ps();
  for (size_t block = 0; block < blocks; block++, panel += bytes) {
    for (int part = 0; part < PARTS; part++) {
      const uint8_t *factors = panel + code_bytes + part * LANES * factor_bytes;
      const __m256 scales = load_factors(factors, half), offsets = load_factors(factors + PANEL * factor_bytes, half);
      for (int r = 0; r < rows; r++) {
        const size_t at = (first + r) * blocks + block;
        const group_t *group = (const group_t *)(x.codes + at * BLOCK);
        const __m256 products = _mm256_cvtepi32_ps(block_products(panel + part * LANES * 4, bits, group));
        const __m256 scale = _mm256_mul_ps(scales, _mm256_set1_ps(x.scales[at]));
        sums[r][part] = _mm256_fmadd_ps(products, scale, sums[r][part]);
        sums[r][part] = _mm256_fmadd_ps(offsets, _mm256_set1_ps(x.sums[at]), sums[r][part]);
      }
    }
  }
  for (int r = 0; r < rows; r++)
    for (int part = 0; part < PARTS; part++) _mm256_storeu_ps(out + r * stride + part * LANES, sums[r][part]);
}

#endif

/** y[:, panel's columns], in tiles of 8, 4, 2 and 1 rows. */
INLINE void panel_product(const uint8_t *panel, size_t blocks, int bits, int half, Activations x, size_t M, float *out, size_t stride) {
  size_t m = 0;
  for (; m + 8 <= M; m += 8) tile(panel, blocks, bits, half, x, m, 8, out + m * stride, stride);
  if (M - m >= 4) tile(panel, blocks, bits, half, x, m, 4, out + m * stride, stride), m += 4;
  if (M - m >= 2) tile(panel, blocks, bits, half, x, m, 2, out + m * stride, stride), m += 2;
  if (M - m >= 1) tile(panel, blocks, bits, half, x, m, 1, out + m * stride, stride);
}

typedef void PanelProduct(const uint8_t *panel, size_t blocks, Activations x, size_t M, float *out, size_t stride);
#define PANEL_PRODUCT(name, bits, half)                                                                          \
  static void name(const uint8_t *panel, size_t blocks, Activations x, size_t M, float *out, size_t stride) { \
    panel_product(panel, blocks, bits, half, x, M, out, stride);                                                 \
  }
PANEL_PRODUCT(product_4_half, 4, 1)
PANEL_PRODUCT(product_4_float, 4, 0)
PANEL_PRODUCT(product_8_half, 8, 1)
PANEL_PRODUCT(product_8_float, 8, 0)

typedef struct {
  const QuantizedMatrix *w;
  const float *x;
  float *y;
  size_t M, blocks;
  Activations activations;
  PanelProduct *product;
  size_t panels_per_task;
} Product;

enum { QUANTIZED_ROWS_PER_TASK = 16 };

static void quantize_task(void *data, size_t task) {
  const Product *p = data;
  const size_t start = task * QUANTIZED_ROWS_PER_TASK;
  for (size_t m = start; m < start + QUANTIZED_ROWS_PER_TASK && m < p->M; m++)
    quantize_row(p->x + m * p->w->K, p->w->K, (int8_t *)p->activations.codes + m * p->blocks * BLOCK,
                 (float *)p->activations.scales + m * p->blocks, (float *)p->activations.sums + m * p->blocks);
}

/** Where N is no multiple of 32, the last panel is computed aside and cut. */
static void last_panel(const Product *p, const uint8_t *panel, size_t column) {
  const size_t N = p->w->N;
  float *out = malloc(p->M * PANEL * sizeof(float));
  p->product(panel, p->blocks, p->activations, p->M, out, PANEL);
  for (size_t m = 0; m < p->M; m++) memcpy(p->y + m * N + column, out + m * PANEL, (N - column) * sizeof(float));
  free(out);
}

static void panels_task(void *data, size_t task) {
  const Product *p = data;
  const size_t N = p->w->N, bytes = p->blocks * panel_block_bytes(p->w->bits, p->w->half);
  for (size_t i = task * p->panels_per_task; i < (task + 1) * p->panels_per_task && i * PANEL < N; i++) {
    const uint8_t *panel = p->w->packed + i * bytes;
    if ((i + 1) * PANEL > N) last_panel(p, panel, i * PANEL);
    else p->product(panel, p->blocks, p->activations, p->M, p->y + i * PANEL, N);
  }
}

void quantized_linear(const QuantizedMatrix *w, const float *x, size_t M, float *y, ParallelFor *parallel, void *pool) {
  const size_t blocks = (w->K + BLOCK - 1) / BLOCK, panels = (w->N + PANEL - 1) / PANEL;
  const size_t code_bytes = (M * blocks * BLOCK + 63) / 64 * 64, factor_bytes = M * blocks * sizeof(float);
  uint8_t *memory = malloc(code_bytes + 2 * factor_bytes);
  Product product = {
      .w = w, .x = x, .y = y, .M = M, .blocks = blocks,
      .activations = {(int8_t *)memory, (float *)(memory + code_bytes), (float *)(memory + code_bytes + factor_bytes)},
      .product = w->bits == 4 ? (w->half ? product_4_half : product_4_float) : (w->half ? product_8_half : product_8_float),
      .panels_per_task = (panels + MAX_TASKS - 1) / MAX_TASKS,
  };
  const size_t quantize_tasks = (M + QUANTIZED_ROWS_PER_TASK - 1) / QUANTIZED_ROWS_PER_TASK;
  if (quantize_tasks == 1) quantize_task(&product, 0);
  else parallel(pool, quantize_task, quantize_tasks, &product);
  parallel(pool, panels_task, (panels + product.panels_per_task - 1) / product.panels_per_task, &product);
  free(memory);
}
