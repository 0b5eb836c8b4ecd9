// Causal attention of new tokens over the keys and values of their rows, which lie in buffers that are written in place.
//
// What a token's output is does not depend on how many tokens or rows run beside it: every score is one dot product, softmax sums run
// over the keys in tiles aligned to position 0, and values are added in the order of the keys.

#include "kernels.h"
#include "simd.h"
#include <math.h>
#include <stdlib.h>

enum {
  TOKENS_PER_TASK = 16,
  QUERIES = 4,                       // that walk over the keys together
  VALUE_VECS = LANES == 16 ? 4 : 2,  // of each query's output that are in registers
};

typedef struct {
  const Attention *a;
  float *q; // [B, S, heads, D], rotated
  size_t token_tasks;
} Run;

static size_t past_length(const Attention *a, size_t b) {
  // Several rows of several tokens are first prompts, padded on the right.
  if (a->B > 1 && a->S > 1) return 0;
  const int64_t past = (int64_t)a->last_position[b] + 1 - (int64_t)a->S;
  return past < 0 ? 0 : (size_t)past;
}

/** Rotates the halves of a head's D values by the angles of a position. */
INLINE void rotate(const float *x, const float *cos, const float *sin, size_t D, float *out) {
  for (size_t i = 0; i < D / 2; i++) {
    const float first = x[i], second = x[i + D / 2];
    out[i] = first * cos[i] - second * sin[i];
    out[i + D / 2] = second * cos[i] + first * sin[i];
  }
}

/** Rotates a token's queries, and puts its keys and values into the row's buffers. */
static void place_token(void *data, size_t index) {
  const Run *run = data;
  const Attention *a = run->a;
  const size_t D = a->head_size, b = index / a->S, position = past_length(a, b) + index % a->S;
  const float *cos = a->cos + position * (D / 2), *sin = a->sin + position * (D / 2);
  for (size_t h = 0; h < a->heads; h++)
    rotate(a->q + index * a->q_stride + h * D, cos, sin, D, run->q + (index * a->heads + h) * D);
  for (size_t h = 0; h < a->kv_heads; h++) {
    const size_t at = ((b * a->kv_heads + h) * a->capacity + position) * D;
    rotate(a->k + index * a->kv_stride + h * D, cos, sin, D, a->keys + at);
    memcpy(a->values + at, a->v + index * a->kv_stride + h * D, D * sizeof(float));
  }
}

/** Lane i of the result is the sum of the lanes of parts[i]. */
INLINE vec sums_of(vec parts[LANES]) {
#if LANES == 16
  const ivec low = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
  const ivec high = {8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
#else
  const ivec low = {0, 8, 1, 9, 2, 10, 3, 11};
  const ivec high = {4, 12, 5, 13, 6, 14, 7, 15};
#endif
  for (int width = LANES / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) {
      const vec a = parts[i], b = parts[i + width];
      parts[i] = __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
    }
  return parts[0];
}

typedef struct {
  const float *q;
  float *out;
  size_t start, limit; // the keys that it sees: [start, limit)
} Query;

/** Scores of `n` queries over keys [first, end), first a multiple of LANES, into scores[n][stride]; the largest of each in `largest`. */
INLINE void score(const Query *queries, int n, const float *keys, size_t first, size_t end, size_t D, float *scores, size_t stride, vec *largest) {
  const float scale = 1 / sqrtf((float)D);
  for (int i = 0; i < n; i++) largest[i] = splat(-INFINITY);
  for (size_t tile = first; tile < end; tile += LANES) {
    for (int i = 0; i < n; i++) {
      vec parts[LANES];
      for (size_t j = 0; j < LANES; j++) {
        const float *key = keys + (tile + j < end ? tile + j : end - 1) * D;
        vec part = load(queries[i].q) * load(key);
        for (size_t d = LANES; d < D; d += LANES) part = fma_(load(queries[i].q + d), load(key + d), part);
        parts[j] = part;
      }
      const ivec position = lane_index() + (int32_t)tile;
      const ivec seen = (position >= (int32_t)queries[i].start) & (position < (int32_t)queries[i].limit);
      const vec hidden = splat(-INFINITY);
      const vec value = (vec)(((ivec)(sums_of(parts) * scale) & seen) | ((ivec)hidden & ~seen));
      store(scores + i * stride + tile - first, value);
      largest[i] = max_(largest[i], value);
    }
  }
}

/** Turns scores into weights in place; returns one over their sum. */
INLINE float soften(float *scores, size_t count, vec largest) {
  const vec top = splat(max_lanes(largest));
  vec total = splat(0);
  for (size_t k = 0; k < count; k += LANES) {
    const vec weight = exp_(load(scores + k) - top);
    store(scores + k, weight);
    total += weight;
  }
  return 1 / sum_lanes(total);
}

/** Values [d, d + vecs * LANES) of `n` queries' outputs. */
INLINE void mix(const Query *queries, int n, const float *values, size_t first, size_t end, size_t D, size_t d, int vecs, const float *weights, size_t stride, const float *inverse) {
  vec sums[QUERIES][VALUE_VECS];
  for (int i = 0; i < n; i++)
    for (int j = 0; j < vecs; j++) sums[i][j] = splat(0);
  for (size_t key = first; key < end; key++)
    for (int i = 0; i < n; i++) {
      const vec weight = splat(weights[i * stride + key - first]);
      for (int j = 0; j < vecs; j++) sums[i][j] = fma_(weight, load(values + key * D + d + j * LANES), sums[i][j]);
    }
  for (int i = 0; i < n; i++)
    for (int j = 0; j < vecs; j++) store(queries[i].out + d + j * LANES, sums[i][j] * inverse[i]);
}

INLINE void attend(const Query *queries, int n, const float *keys, const float *values, size_t D, float *scores, size_t stride) {
  size_t first = queries[0].start, end = queries[0].limit;
  for (int i = 1; i < n; i++) {
    if (queries[i].start < first) first = queries[i].start;
    if (queries[i].limit > end) end = queries[i].limit;
  }
  first = first / LANES * LANES;
  vec largest[QUERIES];
  float inverse[QUERIES];
  score(queries, n, keys, first, end, D, scores, stride, largest);
  const size_t count = (end - first + LANES - 1) / LANES * LANES;
  for (int i = 0; i < n; i++) inverse[i] = soften(scores + i * stride, count, largest[i]);
  size_t d = 0;
  for (; d + VALUE_VECS * LANES <= D; d += VALUE_VECS * LANES)
    mix(queries, n, values, first, end, D, d, VALUE_VECS, scores, stride, inverse);
  for (; d < D; d += LANES) mix(queries, n, values, first, end, D, d, 1, scores, stride, inverse);
}

INLINE void attend_n(const Query *queries, int n, const float *keys, const float *values, size_t D, float *scores, size_t stride) {
  switch (n) {
  case 1: attend(queries, 1, keys, values, D, scores, stride); break;
  case 2: attend(queries, 2, keys, values, D, scores, stride); break;
  case 3: attend(queries, 3, keys, values, D, scores, stride); break;
  default: attend(queries, QUERIES, keys, values, D, scores, stride); break;
  }
}

static void attend_64(const Query *queries, int n, const float *keys, const float *values, float *scores, size_t stride) {
  attend_n(queries, n, keys, values, 64, scores, stride);
}

static void attend_128(const Query *queries, int n, const float *keys, const float *values, float *scores, size_t stride) {
  attend_n(queries, n, keys, values, 128, scores, stride);
}

static void attend_any(const Query *queries, int n, const float *keys, const float *values, size_t D, float *scores, size_t stride) {
  attend_n(queries, n, keys, values, D, scores, stride);
}

/** The queries of some tokens of one row and one key head. */
static void attend_task(void *data, size_t task) {
  const Run *run = data;
  const Attention *a = run->a;
  const size_t D = a->head_size, group = a->heads / a->kv_heads;
  const size_t part = task % run->token_tasks, pair = task / run->token_tasks, head = pair % a->kv_heads, b = pair / a->kv_heads;
  const size_t past = past_length(a, b);
  const size_t start = part * TOKENS_PER_TASK, end = start + TOKENS_PER_TASK < a->S ? start + TOKENS_PER_TASK : a->S;
  const float *keys = a->keys + (b * a->kv_heads + head) * a->capacity * D;
  const float *values = a->values + (b * a->kv_heads + head) * a->capacity * D;
  const size_t stride = (past + end + 2 * LANES) / LANES * LANES;
  float *scores = malloc(QUERIES * stride * sizeof(float));
  const size_t count = (end - start) * group;
  for (size_t i = 0; i < count; i += QUERIES) {
    Query queries[QUERIES];
    const int n = count - i < QUERIES ? (int)(count - i) : QUERIES;
    for (int j = 0; j < n; j++) {
      const size_t token = start + (i + j) / group, h = head * group + (i + j) % group, limit = past + token + 1;
      const size_t at = ((b * a->S + token) * a->heads + h) * D;
      queries[j] = (Query){run->q + at, a->out + at, a->window > 0 && limit > a->window ? limit - a->window : 0, limit};
    }
    if (D == 64) attend_64(queries, n, keys, values, scores, stride);
    else if (D == 128) attend_128(queries, n, keys, values, scores, stride);
    else attend_any(queries, n, keys, values, D, scores, stride);
  }
  free(scores);
}

void cached_attention(const Attention *a, ParallelFor *parallel, void *pool) {
  Run run = {a, malloc(a->B * a->S * a->heads * a->head_size * sizeof(float)), (a->S + TOKENS_PER_TASK - 1) / TOKENS_PER_TASK};
  const size_t tokens = a->B * a->S;
  if (tokens <= TOKENS_PER_TASK)
    for (size_t i = 0; i < tokens; i++) place_token(&run, i);
  else
    parallel(pool, place_token, tokens, &run);
  parallel(pool, attend_task, a->B * a->kv_heads * run.token_tasks, &run);
  free(run.q);
}
