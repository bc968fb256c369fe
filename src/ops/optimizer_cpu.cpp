#include <algorithm>
#include <bit>
#include <cmath>
#include <type_traits>

#include "ops/cpu_math.hpp"
#include "ops/optimizer_detail.hpp"

namespace shoal::ops::cpu {
namespace {

/// fp32 master values behind a working weight of type Elem; pointers are those of a segment.
template <class Elem>
struct Master;
template <>
struct Master<float> {
  float* value;
  Master(const OptimizerUpdate& a, const UpdateSegment& s)
      : value{a.value.data<float>() + s.value} {}
  [[nodiscard]] float load(std::int64_t i) const { return value[i]; }
  void store(std::int64_t i, float p) const { value[i] = p; }
};
template <>
struct Master<Half> {
  float* master;  ///< update() rounds the working weights afterwards: conversions stay scalar
  Master(const OptimizerUpdate& a, const UpdateSegment& s)
      : master{a.master.data<float>() + s.state} {}
  [[nodiscard]] float load(std::int64_t i) const { return master[i]; }
  void store(std::int64_t i, float p) const { master[i] = p; }
};
template <>
struct Master<Bf16> {
  Bf16* value;
  std::uint16_t* low;
  Master(const OptimizerUpdate& a, const UpdateSegment& s)
      : value{a.value.data<Bf16>() + s.value}, low{a.low.data<std::uint16_t>() + s.state} {}
  [[nodiscard]] float load(std::int64_t i) const {
    return std::bit_cast<float>(join_bits({value[i].bits, low[i]}));
  }
  void store(std::int64_t i, float p) const {
    const SplitBits s = split_bits(std::bit_cast<std::uint32_t>(p));
    value[i] = {s.high};
    low[i] = s.low;
  }
};

template <class Moment>
Moment round_moment(float x, std::uint32_t random16) {
  if constexpr (std::is_same_v<Moment, float>) {
    return x;
  } else {
    return {round_stochastic(std::bit_cast<std::uint32_t>(x), random16)};
  }
}

template <class Moment>
std::uint32_t random_bits(std::int64_t seed, const UpdateSegment& segment, std::int64_t i) {
  if constexpr (std::is_same_v<Moment, float>) {
    return 0;
  } else {
    const std::int64_t index = segment.first + i;
    return rounding_bits(rounding_block(seed, segment.stream, index), index);
  }
}

/// The arrays of one segment; pointers that the kind does not use are null.
template <class Elem, class Moment>
struct Arrays {
  Master<Elem> master;
  const float* grad;
  Moment* m;
  float* v;
  Moment* u;
};

/// A function of its own: aggregates declared in the body of a simd loop would keep it scalar.
template <OptimizerKind kKind, class Elem, class Moment>
inline void update_one(const Arrays<Elem, Moment>& a, const UpdateScalars& s, std::int64_t i,
                       std::uint32_t random) {
  UpdateElement<float> x{a.master.load(i), 0.0F, 0.0F, 0.0F};
  if constexpr (uses_m(kKind)) x.m = to_float(a.m[i]);
  if constexpr (uses_v(kKind)) x.v = a.v[i];
  if constexpr (uses_u(kKind)) x.u = to_float(a.u[i]);
  x = update_element<kKind>(s, x, a.grad[i]);
  a.master.store(i, x.p);
  if constexpr (uses_m(kKind)) a.m[i] = round_moment<Moment>(x.m, random & 0xFFFFU);
  if constexpr (uses_v(kKind)) a.v[i] = x.v;
  if constexpr (uses_u(kKind)) a.u[i] = round_moment<Moment>(x.u, random >> 16);
}

template <OptimizerKind kKind, class Elem, class Moment>
void update_segment(const OptimizerUpdate& a, const UpdateScalars& s, std::int64_t seed,
                    const UpdateSegment& segment) {
  const std::int64_t at = segment.state, N = segment.count;
  const Arrays<Elem, Moment> arrays{.master = Master<Elem>{a, segment},
                                    .grad = a.grad.data<float>() + segment.value,
                                    .m = uses_m(kKind) ? a.m.data<Moment>() + at : nullptr,
                                    .v = uses_v(kKind) ? a.v.data<float>() + at : nullptr,
                                    .u = uses_u(kKind) ? a.u.data<Moment>() + at : nullptr};
#pragma omp simd
  for (std::int64_t i = 0; i < N; ++i) {
    update_one<kKind>(arrays, s, i, random_bits<Moment>(seed, segment, i));
  }
  if constexpr (std::is_same_v<Elem, Half>) {
    Half* value = a.value.data<Half>() + segment.value;
    for (std::int64_t i = 0; i < N; ++i) value[i] = from_float<Half>(arrays.master.load(i));
  }
}

template <OptimizerKind kKind, class Elem, class Moment>
void update(const OptimizerUpdate& a, const StepState& state) {
  const UpdateScalars with_decay = with_state(update_scalars(a), state);
  UpdateScalars without = with_decay;
  without.weight_decay = 0.0F;
  const UpdateWork work = update_work(a);
#pragma omp parallel for schedule(static) if (work.pieces > 1)
  for (std::int64_t i = 0; i < work.pieces; ++i) {
    const UpdateSegment segment = piece_of(work, i);
    update_segment<kKind, Elem, Moment>(a, segment.decay != 0 ? with_decay : without,
                                        state.step_seed, segment);
  }
}

template <class Elem, class Moment>
void update_of_kind(const OptimizerUpdate& a, const StepState& state) {
  switch (update_kind(a.kind, a.nu)) {
    case OptimizerKind::amf:
      return update<OptimizerKind::amf, Elem, Moment>(a, state);
    case OptimizerKind::amf_classic:
      return update<OptimizerKind::amf_classic, Elem, Moment>(a, state);
    case OptimizerKind::amf_nesterov:
      return update<OptimizerKind::amf_nesterov, Elem, Moment>(a, state);
    case OptimizerKind::adamw:
      return update<OptimizerKind::adamw, Elem, Moment>(a, state);
    case OptimizerKind::sgd:
      return update<OptimizerKind::sgd, Elem, Moment>(a, state);
  }
}

}  // namespace

void square_sum(const Exec& exec, const TensorView& out, const ConstTensorView& x,
                Accumulate accumulate, const SumTableViews& table) {
  const ScratchScope scope{exec};
  double* parts = square_parts(exec).data<double>();
  const float* values = x.data<float>();
  const SumWork work = sum_work(x, table);
#pragma omp parallel for schedule(static) if (work.parts > 4)
  for (std::int64_t part = 0; part < work.parts; ++part) {
    double sum = 0.0;
    for (std::int64_t r = first_run(work, part); r < first_run(work, part + 1); ++r) {
      const SumRun run = run_of(work, r);
      const std::int64_t end = run.first + run.count;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t i = run.first; i < end; ++i) sum += double{values[i]} * values[i];
    }
    parts[part] = sum;
  }
  double total = accumulate == Accumulate::add ? out.data<double>()[0] : 0.0;
  for (std::int64_t part = 0; part < work.parts; ++part) total += parts[part];
  out.data<double>()[0] = total;
}

void flag_overflow(const Exec&, const TensorView& out, const ConstTensorView& overflow) {
  if (overflowed(overflow.data<float>()[0])) out.data<double>()[0] = kOverflowNorm;
}

void step_decide(const Exec&, const StepDecide& a) {
  auto* state = reinterpret_cast<StepState*>(a.state.data<std::uint8_t>());
  *state = decide(*state, decide_scalars(a), a.square_sum.data<double>()[0]);
}

void optimizer_update(const Exec&, const OptimizerUpdate& a) {
  const auto& state = *reinterpret_cast<const StepState*>(a.state.data<std::uint8_t>());
  if (state.skip != 0) return;
  const OptimizerKind kind = update_kind(a.kind, a.nu);
  const DType moments = uses_m(kind) ? a.m.dtype() : a.u.dtype();
  with_elem(a.value.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    moments == DType::f32 ? update_of_kind<Elem, float>(a, state)
                          : update_of_kind<Elem, Bf16>(a, state);
  });
}

void split_master(const Exec&, const MasterSplit& a) {
  const float* master = a.master.data<float>();
  with_elem(a.value.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    Elem* value = a.value.data<Elem>();
    for (std::int64_t i = 0; i < a.value.elements(); ++i) {
      if constexpr (std::is_same_v<Elem, Bf16>) {
        const SplitBits s = split_bits(std::bit_cast<std::uint32_t>(master[i]));
        value[i] = {s.high};
        a.low.data<std::uint16_t>()[i] = s.low;
      } else {
        value[i] = from_float<Elem>(master[i]);
      }
    }
  });
}

void join_master(const Exec&, const MasterSplit& a) {
  float* master = a.master.data<float>();
  if (a.value.dtype() == DType::f32) {
    std::copy_n(a.value.data<float>(), a.value.elements(), master);
  } else if (a.value.dtype() == DType::bf16) {
    const Bf16* value = a.value.data<Bf16>();
    const std::uint16_t* low = a.low.data<std::uint16_t>();
    for (std::int64_t i = 0; i < a.value.elements(); ++i) {
      master[i] = std::bit_cast<float>(join_bits({value[i].bits, low[i]}));
    }
  }
}

}  // namespace shoal::ops::cpu
