#pragma once
// What the .cu files of this layer share: device element types, reductions in a fixed order,
// 16-byte accesses, launch sizes. Device code only; views and contracts are checked before it is
// reached.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "shoal/base/error.hpp"
#include "shoal/base/math.hpp"
#include "shoal/device/check.hpp"
#include "shoal/tensor/view.hpp"

namespace shoal::ops::cuda {

using shoal::cuda::check_launch;

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullWarp = 0xFFFFFFFFU;

/// Whether this build holds kernels of compute capability 9.0 (hopper/).
#ifdef SHOAL_HAS_SM90A
inline constexpr bool kHasWgmma = true;
#else
inline constexpr bool kHasWgmma = false;
#endif

// ---- element types ----

/// The storage type of views that a device element type stands for.
template <class Elem>
struct StorageOf {
  using Type = Elem;
};
template <>
struct StorageOf<__nv_bfloat16> {
  using Type = Bf16;
};
template <>
struct StorageOf<__half> {
  using Type = Half;
};

/// Calls `body(Elem{})` with the device element type of f32, bf16 or f16.
template <class Body>
decltype(auto) with_device_elem(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f32:
      return body(float{});
    case DType::bf16:
      return body(__nv_bfloat16{});
    case DType::f16:
      return body(__half{});
    default:
      fail("dtype", "expected f32, bf16 or f16");
  }
}

/// Address of a view's elements as Elem (a device element type, or any plain type of DTypeOf);
/// null when the view is absent. Elem must be the view's dtype.
template <class Elem>
[[nodiscard]] Elem* device_data(const TensorView& view) {
  if (view.absent()) return nullptr;
  return reinterpret_cast<Elem*>(view.data<typename StorageOf<Elem>::Type>());
}
template <class Elem>
[[nodiscard]] const Elem* device_data(const ConstTensorView& view) {
  if (view.absent()) return nullptr;
  return reinterpret_cast<const Elem*>(view.data<typename StorageOf<Elem>::Type>());
}

__device__ inline float to_float(float x) {
  return x;
}
__device__ inline float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ inline float to_float(__half x) {
  return __half2float(x);
}

/// Round to nearest even.
template <class Elem>
__device__ inline Elem from_float(float x) {
  if constexpr (std::is_same_v<Elem, __nv_bfloat16>) {
    return __float2bfloat16_rn(x);
  } else if constexpr (std::is_same_v<Elem, __half>) {
    return __float2half_rn(x);
  } else {
    return x;
  }
}

// ---- vector accesses ----

/// N neighbouring elements (a power of two), loaded and stored in pieces of at most 16 bytes.
template <class Elem, int N>
inline constexpr int kVecAlign = static_cast<int>(sizeof(Elem)) * N < 16
                                     ? static_cast<int>(sizeof(Elem)) * N
                                     : 16;
template <class Elem, int N>
struct alignas(kVecAlign<Elem, N>) Vec {
  Elem v[N];
};

/// Elements in 16 bytes: 4 floats or 8 halves.
template <class Elem>
inline constexpr int kVecWidth = 16 / static_cast<int>(sizeof(Elem));

template <int N, class Elem>
__device__ inline Vec<Elem, N> load_vec(const Elem* p) {
  return *reinterpret_cast<const Vec<Elem, N>*>(p);
}
template <int N, class Elem>
__device__ inline void store_vec(Elem* p, const Vec<Elem, N>& x) {
  *reinterpret_cast<Vec<Elem, N>*>(p) = x;
}
template <class Elem, int N>
__device__ inline Vec<float, N> to_floats(const Vec<Elem, N>& x) {
  Vec<float, N> out;
#pragma unroll
  for (int i = 0; i < N; ++i) out.v[i] = to_float(x.v[i]);
  return out;
}
/// N elements at p as floats. N = 1 is the scalar path of the same kernel.
template <int N, class Elem>
__device__ inline Vec<float, N> load_floats(const Elem* p) {
  return to_floats(load_vec<N>(p));
}
template <int N, class Elem>
__device__ inline void store_floats(Elem* p, const Vec<float, N>& x) {
  Vec<Elem, N> raw;
#pragma unroll
  for (int i = 0; i < N; ++i) raw.v[i] = from_float<Elem>(x.v[i]);
  store_vec(p, raw);
}

/// True when rows of `columns` elements at these addresses (null: absent) can be read N at a time.
template <class Elem, int N = kVecWidth<Elem>, class... Pointers>
[[nodiscard]] bool allows_vectors(std::int64_t columns, const Pointers*... pointers) {
  const auto aligned = [](const auto* p) {
    using Pointed = std::remove_cvref_t<decltype(*p)>;
    return reinterpret_cast<std::uintptr_t>(p) % kVecAlign<Pointed, N> == 0;
  };
  return columns % N == 0 && (aligned(pointers) && ...);
}
/// Calls `body(std::integral_constant<int, N>{})` with N = kVecWidth<Elem>, or 1.
template <class Elem, class Body>
void with_width(bool vectors, Body&& body) {
  if (vectors) {
    body(std::integral_constant<int, kVecWidth<Elem>>{});
  } else {
    body(std::integral_constant<int, 1>{});
  }
}

// ---- reductions: every lane gets the result, the order of additions is fixed ----

__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    x += __shfl_xor_sync(kFullWarp, x, offset);
  }
  return x;
}
__device__ inline float warp_max(float x) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, offset));
  }
  return x;
}

/// Over a one-dimensional block of whole warps; all its threads must call. May be called again
/// right after.
__device__ inline float block_sum(float x) {
  __shared__ float partial[kWarpSize];
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  x = warp_sum(x);
  if (lane == 0) partial[warp] = x;
  __syncthreads();
  x = warp_sum(lane < warps ? partial[lane] : 0.0F);
  __syncthreads();  // `partial` is free for the next call
  return x;
}

// ---- launches ----

/// Blocks that cover n items at `per_block` each, at most `limit` (the kernel then strides).
[[nodiscard]] inline unsigned blocks_for(std::int64_t n, std::int64_t per_block,
                                         std::int64_t limit = 0x7FFFFFFF) {
  return static_cast<unsigned>(std::clamp<std::int64_t>(ceil_div(n, per_block), 1, limit));
}
/// Threads of a block for a row of `items`: whole warps, at most `limit`.
[[nodiscard]] inline unsigned threads_for(std::int64_t items, std::int64_t limit = 256) {
  return static_cast<unsigned>(
      std::clamp<std::int64_t>(round_up(items, kWarpSize), kWarpSize, limit));
}
/// Global index of the thread, and how far a grid-stride loop steps.
__device__ inline std::int64_t thread_index() {
  return std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
}
__device__ inline std::int64_t thread_count() {
  return std::int64_t{gridDim.x} * blockDim.x;
}

}  // namespace shoal::ops::cuda
