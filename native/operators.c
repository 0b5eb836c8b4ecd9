// The kernels as custom operators of ONNX Runtime, in the domain "native". `RegisterCustomOps` is what the runtime calls when it loads
// this library. Entry points are found by their index in `struct OrtApi`, whose order is frozen by the C API's stability promise.

#include "kernels.h"
#include <stdlib.h>

typedef void *const OrtApi;
typedef void OrtValue, OrtKernelContext, OrtKernelInfo, OrtStatus, OrtSessionOptions, OrtShape, OrtDomain;

enum { API_VERSION = 23, ANY = 0, FLOAT = 1, UINT8 = 2, INT32 = 6, REQUIRED = 0, OPTIONAL = 1, MAX_RANK = 8, MAX_BATCHES = 8 };
enum {
  CREATE_CUSTOM_OP_DOMAIN = 26,
  CUSTOM_OP_DOMAIN_ADD = 27,
  ADD_CUSTOM_OP_DOMAIN = 28,
  GET_TENSOR_MUTABLE_DATA = 51,
  GET_DIMENSIONS_COUNT = 61,
  GET_DIMENSIONS = 62,
  GET_TENSOR_TYPE_AND_SHAPE = 65,
  KERNEL_INFO_GET_INT64 = 86,
  KERNEL_CONTEXT_GET_INPUT = 90,
  KERNEL_CONTEXT_GET_OUTPUT = 91,
  RELEASE_TYPE_AND_SHAPE = 99,
  KERNEL_CONTEXT_PARALLEL_FOR = 274,
};
#define ENTRY(index, ...) ((OrtStatus * (*)(__VA_ARGS__)) api[index])

typedef struct CustomOp CustomOp;
/** The members of OrtCustomOp that a version 10 has. */
struct CustomOp {
  uint32_t version;
  void *(*create_kernel)(const CustomOp *, OrtApi *, const OrtKernelInfo *);
  const char *(*name)(const CustomOp *);
  const char *(*execution_provider)(const CustomOp *);
  int (*input_type)(const CustomOp *, size_t);
  size_t (*input_count)(const CustomOp *);
  int (*output_type)(const CustomOp *, size_t);
  size_t (*output_count)(const CustomOp *);
  void (*compute)(void *, OrtKernelContext *);
  void (*destroy)(void *);
  int (*input_characteristic)(const CustomOp *, size_t);
  int (*output_characteristic)(const CustomOp *, size_t);
};
enum { STRUCT_VERSION = 10 };

typedef struct {
  float *data;
  int64_t dims[MAX_RANK];
  size_t rank;
} Tensor;

/** A kernel under way: what its compute function works with. */
typedef struct {
  OrtApi *api;
  OrtKernelContext *context;
} Call;

static Tensor input(const Call *call, size_t index) {
  OrtApi *api = call->api;
  Tensor out = {0};
  OrtValue *value = 0;
  OrtShape *shape = 0;
  ENTRY(KERNEL_CONTEXT_GET_INPUT, OrtKernelContext *, size_t, OrtValue **)(call->context, index, &value);
  if (!value) return out;
  ENTRY(GET_TENSOR_MUTABLE_DATA, OrtValue *, float **)(value, &out.data);
  ENTRY(GET_TENSOR_TYPE_AND_SHAPE, OrtValue *, OrtShape **)(value, &shape);
  ENTRY(GET_DIMENSIONS_COUNT, OrtShape *, size_t *)(shape, &out.rank);
  ENTRY(GET_DIMENSIONS, OrtShape *, int64_t *, size_t)(shape, out.dims, out.rank);
  ((void (*)(OrtShape *))api[RELEASE_TYPE_AND_SHAPE])(shape);
  return out;
}

static float *output(const Call *call, size_t index, const int64_t *dims, size_t rank) {
  OrtApi *api = call->api;
  OrtValue *value = 0;
  float *data = 0;
  ENTRY(KERNEL_CONTEXT_GET_OUTPUT, OrtKernelContext *, size_t, const int64_t *, size_t, OrtValue **)(call->context, index, dims, rank, &value);
  ENTRY(GET_TENSOR_MUTABLE_DATA, OrtValue *, float **)(value, &data);
  return data;
}

static int64_t attribute(OrtApi *api, const OrtKernelInfo *info, const char *name) {
  int64_t value = 0;
  ENTRY(KERNEL_INFO_GET_INT64, const OrtKernelInfo *, const char *, int64_t *)(info, name, &value);
  return value;
}

/** On the session's threads. */
static void parallel_for(void *pool, void (*task)(void *, size_t), size_t count, void *data) {
  const Call *call = pool;
  OrtApi *api = call->api;
  if (count == 0) return;
  if (count == 1) {
    task(data, 0);
    return;
  }
  ENTRY(KERNEL_CONTEXT_PARALLEL_FOR, OrtKernelContext *, void (*)(void *, size_t), size_t, size_t, void *)
  (call->context, task, count, count < MAX_BATCHES ? count : MAX_BATCHES, data);
}

static size_t rows_before_last(const Tensor *t) {
  size_t rows = 1;
  for (size_t i = 0; i + 1 < t->rank; i++) rows *= t->dims[i];
  return rows;
}

typedef struct {
  OrtApi *api;
  int64_t N, K, bits, half;
} LinearKernel;

typedef struct {
  OrtApi *api;
  int64_t heads, kv_heads, window;
} AttentionKernel;

typedef struct {
  OrtApi *api;
} PlainKernel;

typedef struct {
  OrtApi *api;
  int64_t half;
} LowRankKernel;

static void *create_linear(const CustomOp *op, OrtApi *api, const OrtKernelInfo *info) {
  (void)op;
  LinearKernel *kernel = malloc(sizeof *kernel);
  *kernel = (LinearKernel){api, attribute(api, info, "N"), attribute(api, info, "K"), attribute(api, info, "bits"), attribute(api, info, "half")};
  return kernel;
}

static void compute_linear(void *data, OrtKernelContext *context) {
  const LinearKernel *kernel = data;
  const Call call = {kernel->api, context};
  Tensor x = input(&call, 0);
  const Tensor packed = input(&call, 1);
  const QuantizedMatrix w = {(const uint8_t *)packed.data, kernel->N, kernel->K, kernel->bits, kernel->half};
  const size_t M = rows_before_last(&x);
  x.dims[x.rank - 1] = kernel->N;
  quantized_linear(&w, x.data, M, output(&call, 0, x.dims, x.rank), parallel_for, (void *)&call);
}

#ifdef __AVX512BF16__

typedef struct {
  OrtApi *api;
  int64_t transposed;
} Bfloat16Kernel;

static void *create_bfloat16(const CustomOp *op, OrtApi *api, const OrtKernelInfo *info) {
  (void)op;
  Bfloat16Kernel *kernel = malloc(sizeof *kernel);
  *kernel = (Bfloat16Kernel){api, attribute(api, info, "transposed")};
  return kernel;
}

/** Inputs: x, and w as f32 [N, K] or as bytes of bfloat16 [N, K, 2]. */
static void compute_bfloat16(void *data, OrtKernelContext *context) {
  const Bfloat16Kernel *kernel = data;
  const Call call = {kernel->api, context};
  Tensor x = input(&call, 0);
  const Tensor values = input(&call, 1);
  const Bfloat16Matrix w = {values.data, values.dims[0], values.dims[1], values.rank == 2};
  const size_t M = rows_before_last(&x);
  x.dims[x.rank - 1] = kernel->transposed ? w.K : w.N;
  bfloat16_linear(&w, kernel->transposed, x.data, M, output(&call, 0, x.dims, x.rank), parallel_for, (void *)&call);
}

#endif

static void *create_attention(const CustomOp *op, OrtApi *api, const OrtKernelInfo *info) {
  (void)op;
  AttentionKernel *kernel = malloc(sizeof *kernel);
  *kernel = (AttentionKernel){api, attribute(api, info, "num_heads"), attribute(api, info, "kv_num_heads"), attribute(api, info, "local_window_size")};
  return kernel;
}

/** Inputs: q (or q, k and v side by side), k, v, keys, values, last_position, cos, sin. Outputs: y, and keys and values again: the same memory. */
static void compute_attention(void *data, OrtKernelContext *context) {
  const AttentionKernel *kernel = data;
  const Call call = {kernel->api, context};
  const Tensor q = input(&call, 0), k = input(&call, 1), v = input(&call, 2), keys = input(&call, 3), values = input(&call, 4);
  const size_t D = keys.dims[3], q_width = kernel->heads * D, kv_width = kernel->kv_heads * D;
  const int64_t shape[] = {q.dims[0], q.dims[1], (int64_t)q_width};
  const int packed = k.data == 0;
  const Attention a = {
      .B = q.dims[0], .S = q.dims[1], .heads = kernel->heads, .kv_heads = kernel->kv_heads, .head_size = D,
      .capacity = keys.dims[2], .window = kernel->window,
      .q = q.data, .k = packed ? q.data + q_width : k.data, .v = packed ? q.data + q_width + kv_width : v.data,
      .q_stride = packed ? q_width + 2 * kv_width : q_width, .kv_stride = packed ? q_width + 2 * kv_width : kv_width,
      .keys = output(&call, 1, keys.dims, 4), .values = output(&call, 2, values.dims, 4),
      .last_position = (const int32_t *)input(&call, 5).data, .cos = input(&call, 6).data, .sin = input(&call, 7).data,
      .out = output(&call, 0, shape, 3),
  };
  cached_attention(&a, parallel_for, (void *)&call);
}

static void *create_plain(const CustomOp *op, OrtApi *api, const OrtKernelInfo *info) {
  (void)op, (void)info;
  PlainKernel *kernel = malloc(sizeof *kernel);
  kernel->api = api;
  return kernel;
}

static void *create_low_rank(const CustomOp *op, OrtApi *api, const OrtKernelInfo *info) {
  (void)op;
  LowRankKernel *kernel = malloc(sizeof *kernel);
  *kernel = (LowRankKernel){api, attribute(api, info, "half")};
  return kernel;
}

/** Inputs: y [B, S, N], x [B, S, K], adapters [B], A [G, K, projections * rank], then B [G, rank, outputs] of each projection; A and B are
 * f16 where the attribute `half` is 1, else f32. */
static void compute_low_rank(void *data, OrtKernelContext *context) {
  const LowRankKernel *kernel = data;
  const Call call = {kernel->api, context};
  const Tensor y = input(&call, 0), x = input(&call, 1), a = input(&call, 3);
  LowRankUpdate u = {
      .B = x.dims[0], .S = x.dims[1], .K = x.dims[2], .N = y.dims[2], .y = y.data, .x = x.data,
      .adapters = (const int32_t *)input(&call, 2).data, .half = kernel->half, .a = a.data, .out = output(&call, 0, y.dims, y.rank),
  };
  for (; u.projections < 3; u.projections++) {
    const Tensor b = input(&call, 4 + u.projections);
    if (!b.data) break;
    u.b[u.projections] = b.data;
    u.outputs[u.projections] = b.dims[2];
  }
  u.rank = a.dims[2] / u.projections;
  low_rank_update(&u, parallel_for, (void *)&call);
}

static void compute_gated(void *data, OrtKernelContext *context) {
  const Call call = {((PlainKernel *)data)->api, context};
  Tensor x = input(&call, 0);
  const size_t M = rows_before_last(&x), width = x.dims[x.rank - 1] / 2;
  x.dims[x.rank - 1] = width;
  silu_gated(x.data, M, width, output(&call, 0, x.dims, x.rank), parallel_for, (void *)&call);
}

static const char *provider(const CustomOp *op) { return (void)op, "CPUExecutionProvider"; }
static int floats(const CustomOp *op, size_t i) { return (void)op, (void)i, FLOAT; }
static int required(const CustomOp *op, size_t i) { return (void)op, (void)i, REQUIRED; }

#define OPERATOR(id, text, inputs, outputs, type, presence, create, compute_)                  \
  static const char *id##_name(const CustomOp *op) { return (void)op, text; }                  \
  static size_t id##_inputs(const CustomOp *op) { return (void)op, inputs; }                   \
  static size_t id##_outputs(const CustomOp *op) { return (void)op, outputs; }                 \
  static int id##_type(const CustomOp *op, size_t i) { return (void)op, (void)i, type; }       \
  static int id##_presence(const CustomOp *op, size_t i) { return (void)op, (void)i, presence; } \
  static CustomOp id = {STRUCT_VERSION, create, id##_name, provider, id##_type, id##_inputs,   \
                        floats, id##_outputs, compute_, free, id##_presence, required};

OPERATOR(linear, "QuantizedLinear", 2, 1, i == 1 ? UINT8 : FLOAT, REQUIRED, create_linear, compute_linear)
OPERATOR(attention, "CachedAttention", 8, 3, i == 5 ? INT32 : FLOAT, i == 1 || i == 2 ? OPTIONAL : REQUIRED, create_attention, compute_attention)
OPERATOR(low_rank, "LowRankUpdate", 7, 1, i < 2 ? FLOAT : i == 2 ? INT32 : ANY, i > 4 ? OPTIONAL : REQUIRED, create_low_rank, compute_low_rank)
OPERATOR(gated, "SiluGated", 1, 1, FLOAT, REQUIRED, create_plain, compute_gated)
#ifdef __AVX512BF16__
OPERATOR(bfloat16, "Bfloat16Linear", 2, 1, i == 1 ? ANY : FLOAT, REQUIRED, create_bfloat16, compute_bfloat16)
#endif

EXPORT OrtStatus *RegisterCustomOps(OrtSessionOptions *options, void *const *api_base) {
  OrtApi *api = ((OrtApi * (*)(uint32_t)) api_base[0])(API_VERSION);
  static OrtDomain *domain = 0; // one for all sessions of the process
  if (domain) return ENTRY(ADD_CUSTOM_OP_DOMAIN, OrtSessionOptions *, OrtDomain *)(options, domain);
  OrtStatus *status = ENTRY(CREATE_CUSTOM_OP_DOMAIN, const char *, OrtDomain **)("native", &domain);
  CustomOp *const all[] = {
      &linear, &attention, &low_rank, &gated,
#ifdef __AVX512BF16__
      &bfloat16,
#endif
  };
  for (size_t i = 0; i < sizeof all / sizeof *all && !status; i++)
    status = ENTRY(CUSTOM_OP_DOMAIN_ADD, OrtDomain *, CustomOp *)(domain, all[i]);
  return status ? status : ENTRY(ADD_CUSTOM_OP_DOMAIN, OrtSessionOptions *, OrtDomain *)(options, domain);
}
