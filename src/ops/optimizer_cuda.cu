#include <cstddef>

#include "ops/cuda_common.cuh"
#include "ops/optimizer_detail.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWidth = 4;  // elements a thread updates at once: 16 bytes of each fp32 array

/// The arrays of one update, or of one of its segments; pointers that the kind or dtype does not
/// use are null.
template <class Elem, class Moment>
struct Arrays {
  Elem* value;
  std::uint16_t* low;
  float* master;
  const float* grad;
  Moment* m;
  float* v;
  Moment* u;

  /// Those of a segment. An offset from a null pointer is never read.
  __device__ Arrays at(const UpdateSegment& s) const {
    return {value + s.value, low + s.state, master + s.state, grad + s.value,
            m + s.state,     v + s.state,   u + s.state};
  }
};

template <int N, class Elem, class Moment>
__device__ Vec<float, N> load_master(const Arrays<Elem, Moment>& a, std::int64_t i) {
  if constexpr (std::is_same_v<Elem, __nv_bfloat16>) {
    const auto high = load_vec<N>(a.value + i);
    const auto low = load_vec<N>(a.low + i);
    Vec<float, N> out;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      out.v[j] = __uint_as_float(join_bits({__bfloat16_as_ushort(high.v[j]), low.v[j]}));
    }
    return out;
  } else if constexpr (std::is_same_v<Elem, __half>) {
    return load_vec<N>(a.master + i);
  } else {
    return load_vec<N>(a.value + i);
  }
}

template <int N, class Elem, class Moment>
__device__ void store_master(const Arrays<Elem, Moment>& a, std::int64_t i,
                             const Vec<float, N>& p) {
  if constexpr (std::is_same_v<Elem, __nv_bfloat16>) {
    Vec<__nv_bfloat16, N> high;
    Vec<std::uint16_t, N> low;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const SplitBits s = split_bits(__float_as_uint(p.v[j]));
      high.v[j] = __ushort_as_bfloat16(s.high);
      low.v[j] = s.low;
    }
    store_vec(a.value + i, high);
    store_vec(a.low + i, low);
  } else {
    if constexpr (std::is_same_v<Elem, __half>) store_vec(a.master + i, p);
    store_floats(a.value + i, p);
  }
}

/// fp32 moments as they are; bf16 ones rounded with 16 of each element's random bits.
template <int N, class Moment>
__device__ void store_moment(Moment* p, const Vec<float, N>& x, const Vec<std::uint32_t, N>& random,
                             int shift) {
  if constexpr (std::is_same_v<Moment, float>) {
    store_vec(p, x);
  } else {
    Vec<Moment, N> out;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const std::uint32_t bits = (random.v[j] >> shift) & 0xFFFFU;
      out.v[j] = __ushort_as_bfloat16(round_stochastic(__float_as_uint(x.v[j]), bits));
    }
    store_vec(p, out);
  }
}

/// Random bits of N consecutive elements; four aligned ones share a Philox block.
template <int N>
__device__ Vec<std::uint32_t, N> random_bits(std::int64_t seed, std::uint32_t stream,
                                             std::int64_t index) {
  if constexpr (N == 4) {
    if (index % 4 == 0) {
      const philox::Block b = rounding_block(seed, stream, index);
      return {b.x0, b.x1, b.x2, b.x3};
    }
  }
  Vec<std::uint32_t, N> out;
#pragma unroll
  for (int j = 0; j < N; ++j) {
    out.v[j] = rounding_bits(rounding_block(seed, stream, index + j), index + j);
  }
  return out;
}

template <OptimizerKind kKind, int N, class Elem, class Moment>
__device__ void update(const Arrays<Elem, Moment>& a, const UpdateScalars& s, std::int64_t i,
                       std::int64_t seed, const UpdateSegment& segment) {
  const Vec<float, N> grad = load_vec<N>(a.grad + i);
  Vec<float, N> p = load_master<N>(a, i), m{}, v{}, u{};
  if constexpr (uses_m(kKind)) m = load_floats<N>(a.m + i);
  if constexpr (uses_v(kKind)) v = load_vec<N>(a.v + i);
  if constexpr (uses_u(kKind)) u = load_floats<N>(a.u + i);
#pragma unroll
  for (int j = 0; j < N; ++j) {
    const UpdateElement<float> x =
        update_element<kKind>(s, {p.v[j], m.v[j], v.v[j], u.v[j]}, grad.v[j]);
    p.v[j] = x.p;
    m.v[j] = x.m;
    v.v[j] = x.v;
    u.v[j] = x.u;
  }
  Vec<std::uint32_t, N> random{};
  if constexpr (!std::is_same_v<Moment, float>)
    random = random_bits<N>(seed, segment.stream, segment.first + i);
  store_master<N>(a, i, p);
  if constexpr (uses_m(kKind)) store_moment<N>(a.m + i, m, random, 0);
  if constexpr (uses_v(kKind)) store_vec(a.v + i, v);
  if constexpr (uses_u(kKind)) store_moment<N>(a.u + i, u, random, 16);
}

/// The elements of a segment that its block updates N at a time, from `begin` on.
template <int N, class Elem, class Moment>
__device__ void update_elements(const Arrays<Elem, Moment>& a, const UpdateScalars& s,
                                OptimizerKind kind, std::int64_t begin,
                                const UpdateSegment& segment, std::int64_t seed) {
  const std::int64_t end = segment.count / N * N;
  for (std::int64_t i = begin + threadIdx.x * N; i < end; i += kThreads * N) {
    switch (kind) {
      case OptimizerKind::amf:
        update<OptimizerKind::amf, N>(a, s, i, seed, segment);
        break;
      case OptimizerKind::amf_classic:
        update<OptimizerKind::amf_classic, N>(a, s, i, seed, segment);
        break;
      case OptimizerKind::amf_nesterov:
        update<OptimizerKind::amf_nesterov, N>(a, s, i, seed, segment);
        break;
      case OptimizerKind::adamw:
        update<OptimizerKind::adamw, N>(a, s, i, seed, segment);
        break;
      case OptimizerKind::sgd:
        update<OptimizerKind::sgd, N>(a, s, i, seed, segment);
        break;
    }
  }
}

/// One segment a block; all threads take the same branches. `aligned`: the arrays themselves allow
/// vectors.
template <class Elem, class Moment>
__global__ void __launch_bounds__(kThreads)
    update_kernel(Arrays<Elem, Moment> arrays, UpdateScalars s, const StepState* state,
                  OptimizerKind kind, UpdateWork work, bool aligned) {
  if (state->skip != 0) return;
  s = with_state(s, *state);
  const std::int64_t seed = state->step_seed;
  const UpdateSegment segment = piece_of(work, blockIdx.x);
  if (segment.decay == 0) s.weight_decay = 0.0F;
  const Arrays<Elem, Moment> a = arrays.at(segment);
  const bool vectors = aligned && segment.value % kWidth == 0 && segment.state % kWidth == 0;
  if (vectors) update_elements<kWidth>(a, s, kind, 0, segment, seed);
  const std::int64_t rest = vectors ? segment.count / kWidth * kWidth : 0;
  update_elements<1>(a, s, kind, rest, segment, seed);
}

template <class Elem, class Moment>
void launch_update(const Exec& exec, const OptimizerUpdate& a) {
  const OptimizerKind kind = update_kind(a.kind, a.nu);
  const Arrays<Elem, Moment> arrays{
      .value = device_data<Elem>(a.value),
      .low = a.value.dtype() == DType::bf16 ? device_data<std::uint16_t>(a.low) : nullptr,
      .master = a.value.dtype() == DType::f16 ? device_data<float>(a.master) : nullptr,
      .grad = device_data<float>(a.grad),
      .m = uses_m(kind) ? device_data<Moment>(a.m) : nullptr,
      .v = uses_v(kind) ? device_data<float>(a.v) : nullptr,
      .u = uses_u(kind) ? device_data<Moment>(a.u) : nullptr};
  const auto* state = reinterpret_cast<const StepState*>(device_data<std::uint8_t>(a.state));
  const UpdateWork work = update_work(a);
  const bool aligned = allows_vectors<float>(kWidth, arrays.value, arrays.low, arrays.master,
                                             arrays.grad, arrays.m, arrays.v, arrays.u);
  update_kernel<Elem, Moment>
      <<<static_cast<unsigned>(work.pieces), kThreads, 0, exec.cuda().stream>>>(
          arrays, update_scalars(a), state, kind, work, aligned);
  check_launch();
}

}  // namespace

void optimizer_update(const Exec& exec, const OptimizerUpdate& a) {
  const DType moments = uses_m(update_kind(a.kind, a.nu)) ? a.m.dtype() : a.u.dtype();
  with_device_elem(a.value.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    if (moments == DType::f32) return launch_update<Elem, float>(exec, a);
    launch_update<Elem, __nv_bfloat16>(exec, a);
  });
}

}  // namespace shoal::ops::cuda
