#include <cudaTypedefs.h>

#include "ops/hopper/tma.cuh"

namespace shoal::ops::cuda::hopper {
namespace {

/// The driver's encoder, found at run time: the program links to the runtime library only.
PFN_cuTensorMapEncodeTiled_v12000 find_encoder() {
  constexpr unsigned kSince = 12000;
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult result{};
  shoal::cuda::check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, kSince,
                                                      cudaEnableDefault, &result));
  expect(result == cudaDriverEntryPointSuccess, "the driver encodes tensor maps");
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(entry);
}

CUtensorMapDataType element_type(DType dtype) {
  switch (dtype) {
    case DType::bf16:
      return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case DType::f16:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    case DType::f32:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    default:
      fail("dtype", "a tensor map is of f32, bf16 or f16");
  }
}

}  // namespace

CUtensorMap make_tensor_map(const TensorMapShape& shape) {
  static const PFN_cuTensorMapEncodeTiled_v12000 encode = find_encoder();
  constexpr cuuint32_t kRank = 3;
  const auto elem_bytes = static_cast<cuuint64_t>(size_of(shape.dtype));
  const cuuint64_t row_bytes = static_cast<cuuint64_t>(shape.columns) * elem_bytes;
  const cuuint64_t dims[kRank] = {static_cast<cuuint64_t>(shape.columns),
                                  static_cast<cuuint64_t>(shape.rows),
                                  static_cast<cuuint64_t>(shape.matrices)};
  const cuuint64_t strides[kRank - 1] = {row_bytes, row_bytes * dims[1]};
  const cuuint32_t box[kRank] = {static_cast<cuuint32_t>(kBoxRow * 2 / elem_bytes),
                                 static_cast<cuuint32_t>(shape.box_rows), 1};
  const cuuint32_t steps[kRank] = {1, 1, 1};
  CUtensorMap map{};
  const CUresult result =
      encode(&map, element_type(shape.dtype), kRank, const_cast<void*>(shape.data), dims, strides,
             box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  expect(result == CUDA_SUCCESS, "a tensor map of 16-byte rows and addresses");
  return map;
}

}  // namespace shoal::ops::cuda::hopper
