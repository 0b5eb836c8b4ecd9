// silu(gate) * up, where a row holds its gates, then its ups.

#include "kernels.h"
#include "simd.h"

typedef struct {
  const float *x;
  float *y;
  size_t width;
} Run;

static void gate_row(void *data, size_t m) {
  const Run *run = data;
  const float *gate = run->x + m * 2 * run->width, *up = gate + run->width;
  float *y = run->y + m * run->width;
  size_t i = 0;
  for (; i + LANES <= run->width; i += LANES) {
    const vec g = load(gate + i);
    store(y + i, g / (1.0f + exp_(-g)) * load(up + i));
  }
  for (; i < run->width; i++) y[i] = gate[i] / (1 + exp_(splat(-gate[i]))[0]) * up[i];
}

void silu_gated(const float *x, size_t M, size_t width, float *y, ParallelFor *parallel, void *pool) {
  Run run = {x, y, width};
  parallel(pool, gate_row, M, &run);
}
