// y + x A B for rows with different adapters: each row meets its own adapter's matrices and no other's, and the order of its sums does
// not depend on its neighbours.

#include "kernels.h"
#include "simd.h"
#include <stdlib.h>

enum { TILE = 4, COLUMN_VECS = 4, COLUMNS = COLUMN_VECS * LANES, STREAM_COLUMNS = 512 };

/** LANES values of A or B from `index` on; f16 where `half`. */
INLINE vec load_weights(const void *weights, size_t index, int half) {
  return half ? load_half((const uint16_t *)weights + index) : load((const float *)weights + index);
}

INLINE float weight_at(const void *weights, size_t index, int half) {
  return half ? _cvtsh_ss(((const uint16_t *)weights)[index]) : ((const float *)weights)[index];
}

typedef struct {
  size_t start, rows, adapter; // neighbouring rows with the same adapter, at most TILE
} Span;

typedef struct {
  const LowRankUpdate *u;
  Span *spans;
  size_t num_spans, width, down_chunks, up_chunks;
  float *down; // [M, width]: x A
} Run;

/** `vecs` vectors of columns of x A for a span; even and odd inputs are summed apart, so that additions need not wait for each other. */
INLINE void down_columns(const Run *run, Span span, size_t column, int rows, int vecs, int half) {
  const LowRankUpdate *u = run->u;
  const size_t K = u->K, width = run->width, a = span.adapter * K * width + column;
  const float *x = u->x + span.start * K;
  vec sums[TILE][COLUMN_VECS][2];
  for (int r = 0; r < rows; r++)
    for (int j = 0; j < vecs; j++) sums[r][j][0] = sums[r][j][1] = splat(0);
  size_t k = 0;
  for (; k + 2 <= K; k += 2)
    for (int r = 0; r < rows; r++)
      for (int j = 0; j < vecs; j++) {
        sums[r][j][0] = fma_(splat(x[r * K + k]), load_weights(u->a, a + k * width + j * LANES, half), sums[r][j][0]);
        sums[r][j][1] = fma_(splat(x[r * K + k + 1]), load_weights(u->a, a + (k + 1) * width + j * LANES, half), sums[r][j][1]);
      }
  for (int r = 0; r < rows; r++)
    for (int j = 0; j < vecs; j++) {
      if (k < K) sums[r][j][0] = fma_(splat(x[r * K + k]), load_weights(u->a, a + k * width + j * LANES, half), sums[r][j][0]);
      store(run->down + (span.start + r) * width + column + j * LANES, sums[r][j][0] + sums[r][j][1]);
    }
}

/** The same for columns that fill no vector, in the same order of additions. */
INLINE void down_rest(const Run *run, Span span, size_t column, int half) {
  const size_t K = run->u->K, width = run->width, a = span.adapter * K * width;
  for (size_t r = span.start; r < span.start + span.rows; r++)
    for (size_t j = column; j < width; j++) {
      float sums[2] = {0, 0};
      for (size_t k = 0; k < K; k++) sums[k % 2] = __builtin_fmaf(run->u->x[r * K + k], weight_at(run->u->a, a + k * width + j, half), sums[k % 2]);
      run->down[r * width + j] = sums[0] + sums[1];
    }
}

INLINE void down_task_of(const Run *run, size_t task, int half) {
  const Span span = run->spans[task / run->down_chunks];
  size_t column = task % run->down_chunks * COLUMNS;
  const size_t end = column + COLUMNS < run->width ? column + COLUMNS : run->width;
  const size_t vecs = (end - column) / LANES;
  if (span.rows == 1) {
    // A lone row waits for memory: whole rows of A, one after the other.
    if (vecs == 4) down_columns(run, span, column, 1, 4, half);
    else if (vecs == 3) down_columns(run, span, column, 1, 3, half);
    else if (vecs == 2) down_columns(run, span, column, 1, 2, half);
    else if (vecs == 1) down_columns(run, span, column, 1, 1, half);
    column += vecs * LANES;
  }
  for (; column + LANES <= end; column += LANES) {
    if (span.rows == 2) down_columns(run, span, column, 2, 1, half);
    else if (span.rows == 3) down_columns(run, span, column, 3, 1, half);
    else down_columns(run, span, column, TILE, 1, half);
  }
  if (column < end) down_rest(run, span, column, half);
}

static void down_task(void *data, size_t task) {
  const Run *run = data;
  if (run->u->half) down_task_of(run, task, 1);
  else down_task_of(run, task, 0);
}

/** Adds the product with B to `vecs` vectors of columns of one projection. */
INLINE void up_columns(const Run *run, Span span, size_t projection, size_t column, int rows, int vecs, int half) {
  const LowRankUpdate *u = run->u;
  const size_t rank = u->rank, N = u->outputs[projection], b = span.adapter * rank * N + column;
  const float *down = run->down + span.start * run->width + projection * rank;
  vec sums[TILE][COLUMN_VECS];
  for (int r = 0; r < rows; r++)
    for (int j = 0; j < vecs; j++) sums[r][j] = splat(0);
  for (size_t k = 0; k < rank; k++)
    for (int r = 0; r < rows; r++) {
      const vec value = splat(down[r * run->width + k]);
      for (int j = 0; j < vecs; j++) sums[r][j] = fma_(value, load_weights(u->b[projection], b + k * N + j * LANES, half), sums[r][j]);
    }
  size_t offset = column;
  for (size_t p = 0; p < projection; p++) offset += u->outputs[p];
  for (int r = 0; r < rows; r++)
    for (int j = 0; j < vecs; j++) {
      const size_t at = (span.start + r) * u->N + offset + j * LANES;
      store(u->out + at, load(u->y + at) + sums[r][j]);
    }
}

INLINE void up_rest(const Run *run, Span span, size_t projection, size_t column, int half) {
  const LowRankUpdate *u = run->u;
  const size_t rank = u->rank, N = u->outputs[projection];
  size_t offset = 0;
  for (size_t p = 0; p < projection; p++) offset += u->outputs[p];
  for (size_t r = span.start; r < span.start + span.rows; r++)
    for (size_t n = column; n < N; n++) {
      float sum = 0;
      for (size_t k = 0; k < rank; k++)
        sum = __builtin_fmaf(run->down[r * run->width + projection * rank + k], weight_at(u->b[projection], (span.adapter * rank + k) * N + n, half), sum);
      u->out[r * u->N + offset + n] = u->y[r * u->N + offset + n] + sum;
    }
}

/** The same for one row and up to STREAM_COLUMNS columns, with B read in the order in which it lies. */
INLINE void up_stream(const Run *run, Span span, size_t projection, size_t column, size_t end, int half) {
  const LowRankUpdate *u = run->u;
  const size_t rank = u->rank, N = u->outputs[projection], count = (end - column) / LANES * LANES;
  const size_t b = span.adapter * rank * N + column;
  const float *down = run->down + span.start * run->width + projection * rank;
  float sums[STREAM_COLUMNS] = {0};
  for (size_t k = 0; k < rank; k++)
    for (size_t n = 0; n < count; n += LANES) store(sums + n, fma_(splat(down[k]), load_weights(u->b[projection], b + k * N + n, half), load(sums + n)));
  size_t at = span.start * u->N + column;
  for (size_t p = 0; p < projection; p++) at += u->outputs[p];
  for (size_t n = 0; n < count; n += LANES) store(u->out + at + n, load(u->y + at + n) + load(sums + n));
}

INLINE void up_rows(const Run *run, Span span, size_t projection, size_t column, int vecs, int half) {
  if (span.rows == 2) up_columns(run, span, projection, column, 2, vecs, half);
  else if (span.rows == 3) up_columns(run, span, projection, column, 3, vecs, half);
  else up_columns(run, span, projection, column, TILE, vecs, half);
}

static size_t chunks_of(size_t outputs) { return (outputs + STREAM_COLUMNS - 1) / STREAM_COLUMNS; }

INLINE void up_task_of(const Run *run, size_t task, int half) {
  const Span span = run->spans[task / run->up_chunks];
  size_t chunk = task % run->up_chunks, projection = 0;
  for (size_t chunks; chunk >= (chunks = chunks_of(run->u->outputs[projection])); projection++) chunk -= chunks;
  const size_t N = run->u->outputs[projection], end = (chunk + 1) * STREAM_COLUMNS < N ? (chunk + 1) * STREAM_COLUMNS : N;
  size_t column = chunk * STREAM_COLUMNS;
  if (span.rows == 1) {
    up_stream(run, span, projection, column, end, half);
    column += (end - column) / LANES * LANES;
  }
  for (; column + COLUMNS <= end; column += COLUMNS) up_rows(run, span, projection, column, COLUMN_VECS, half);
  for (; column + LANES <= end; column += LANES) up_rows(run, span, projection, column, 1, half);
  if (column < end) up_rest(run, span, projection, column, half);
}

static void up_task(void *data, size_t task) {
  const Run *run = data;
  if (run->u->half) up_task_of(run, task, 1);
  else up_task_of(run, task, 0);
}

/** Rows with an adapter, in spans. Rows without one keep y. */
static size_t find_spans(const LowRankUpdate *u, Span *spans) {
  size_t count = 0;
  for (size_t m = 0; m < u->B * u->S; m++) {
    const int32_t adapter = u->adapters[m / u->S];
    Span *last = count > 0 ? &spans[count - 1] : NULL;
    if (adapter < 0) memcpy(u->out + m * u->N, u->y + m * u->N, u->N * sizeof(float));
    else if (last && last->adapter == (size_t)adapter && last->start + last->rows == m && last->rows < TILE) last->rows++;
    else spans[count++] = (Span){m, 1, adapter};
  }
  return count;
}

void low_rank_update(const LowRankUpdate *u, ParallelFor *parallel, void *pool) {
  const size_t M = u->B * u->S, width = u->rank * u->projections;
  uint8_t *memory = malloc(M * sizeof(Span) + M * width * sizeof(float));
  Run run = {.u = u, .spans = (Span *)memory, .width = width, .down = (float *)(memory + M * sizeof(Span))};
  run.num_spans = find_spans(u, run.spans);
  run.down_chunks = (width + COLUMNS - 1) / COLUMNS;
  for (size_t p = 0; p < u->projections; p++) run.up_chunks += chunks_of(u->outputs[p]);
  parallel(pool, down_task, run.num_spans * run.down_chunks, &run);
  parallel(pool, up_task, run.num_spans * run.up_chunks, &run);
  free(memory);
}

void float_to_half(const float *values, uint16_t *out, size_t count) {
  for (size_t i = 0; i < count; i++) out[i] = _cvtss_sh(values[i], _MM_FROUND_TO_NEAREST_INT);
}
