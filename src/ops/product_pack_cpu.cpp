#include "ops/product_pack_cpu.hpp"

#include "shoal/base/error.hpp"
#include "shoal/base/math.hpp"

#if defined(__x86_64__)
// GCC 12 takes the undefined operands inside its own intrinsics for a mistake (its bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,f16c,fma")

namespace shoal::ops::cpu {
namespace {

using Vector = __m512i;

__mmask16 first_of_16(std::int64_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xFFFFU : (1U << n) - 1U);
}

struct F32 {
  using Elem = float;
  static constexpr std::int64_t kInner = 1;
  static Vector words(const float* p, std::int64_t n) {
    return _mm512_maskz_loadu_epi32(first_of_16(n), p);
  }
  static Vector along_inner(const float* p, std::int64_t n) { return words(p, n); }
  static Vector along_outer(const float* p, std::int64_t, std::int64_t outer, std::int64_t) {
    return words(p, outer);
  }
};

/// 16-bit values widened to fp32.
template <class E>
struct Widened {
  using Elem = E;
  static constexpr std::int64_t kInner = 1;
  static Vector words(const E* p, std::int64_t n) {
    const __m256i bits = _mm256_maskz_loadu_epi16(first_of_16(n), p);
    if constexpr (std::is_same_v<E, Half>) return _mm512_castps_si512(_mm512_cvtph_ps(bits));
    return _mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16);
  }
  static Vector along_inner(const E* p, std::int64_t n) { return words(p, n); }
  static Vector along_outer(const E* p, std::int64_t, std::int64_t outer, std::int64_t) {
    return words(p, outer);
  }
};

/// Two bf16 values a word, the lower inner index in the low half.
struct Bf16Pair {
  using Elem = Bf16;
  static constexpr std::int64_t kInner = 2;
  static Vector along_inner(const Bf16* p, std::int64_t n) {
    const auto mask = static_cast<__mmask32>(n >= 32 ? 0xFFFFFFFFU : (1U << n) - 1U);
    return _mm512_maskz_loadu_epi16(mask, p);
  }
  static Vector along_outer(const Bf16* p, std::int64_t stride, std::int64_t outer,
                            std::int64_t inner) {
    const __mmask16 mask = first_of_16(outer);
    const Vector low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p));
    if (inner < 2) return low;
    const Vector high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p + stride));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
  }
};

/// Word j of line i becomes word i of line j: in blocks of 4, then the blocks among each other.
void transpose(Vector (&line)[16]) {
  Vector t[16];
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    const Vector ab_low = _mm512_unpacklo_epi32(line[i], line[i + 1]);
    const Vector ab_high = _mm512_unpackhi_epi32(line[i], line[i + 1]);
    const Vector cd_low = _mm512_unpacklo_epi32(line[i + 2], line[i + 3]);
    const Vector cd_high = _mm512_unpackhi_epi32(line[i + 2], line[i + 3]);
    t[i] = _mm512_unpacklo_epi64(ab_low, cd_low);
    t[i + 1] = _mm512_unpackhi_epi64(ab_low, cd_low);
    t[i + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
    t[i + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // t[i + 4 b]: words i, i + 4, i + 8, i + 12 of lines 4 b ..
    const Vector low01 = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88);
    const Vector high01 = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xDD);
    const Vector low23 = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88);
    const Vector high23 = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xDD);
    line[i] = _mm512_shuffle_i32x4(low01, low23, 0x88);
    line[i + 4] = _mm512_shuffle_i32x4(high01, high23, 0x88);
    line[i + 8] = _mm512_shuffle_i32x4(low01, low23, 0xDD);
    line[i + 12] = _mm512_shuffle_i32x4(high01, high23, 0xDD);
  }
}

template <class Source, bool inner_first, bool transposed>
void pack_tile(float* tile, const typename Source::Elem* x, std::int64_t stride, std::int64_t outer,
               std::int64_t inner) {
  Vector line[16];
#pragma GCC unroll 16
  for (std::int64_t i = 0; i < 16; ++i) {
    if constexpr (inner_first) {
      const std::int64_t k = i * Source::kInner;
      line[i] = k < inner ? Source::along_outer(x + k * stride, stride, outer, inner - k)
                          : _mm512_setzero_si512();
    } else {
      line[i] = i < outer ? Source::along_inner(x + i * stride, inner) : _mm512_setzero_si512();
    }
  }
  if constexpr (transposed) transpose(line);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm512_store_si512(tile + i * kPanel, line[i]);
}

/// Tiles in the order in which the source lies in memory.
template <class Source, bool inner_first, bool transposed>
void pack(float* panels, const PackCall& c) {
  const auto* x = reinterpret_cast<const typename Source::Elem*>(c.source);
  constexpr std::int64_t kInner = kPanel * Source::kInner;
  const std::int64_t down = ceil_div(c.outer, kPanel), across = ceil_div(c.inner, kInner);
  for (std::int64_t i = 0; i < down * across; ++i) {
    const std::int64_t panel = inner_first ? i % down : i / across;
    const std::int64_t tile = inner_first ? i / down : i % across;
    const std::int64_t o = panel * kPanel, k = tile * kInner;
    const auto* first = x + (inner_first ? k * c.stride + o : o * c.stride + k);
    pack_tile<Source, inner_first, transposed>(panels + (panel * across + tile) * kTileWords, first,
                                               c.stride, c.outer - o, c.inner - k);
  }
}

template <class Source>
void pack_source(float* panels, const PackCall& c) {
  if (c.inner_first) {
    return c.line == Line::inner ? pack<Source, true, true>(panels, c)
                                 : pack<Source, true, false>(panels, c);
  }
  return c.line == Line::inner ? pack<Source, false, false>(panels, c)
                               : pack<Source, false, true>(panels, c);
}

}  // namespace

void pack_panels(float* panels, const PackCall& call) {
  if (call.word == Word::bf16_pair) return pack_source<Bf16Pair>(panels, call);
  if (call.elem == DType::bf16) return pack_source<Widened<Bf16>>(panels, call);
  if (call.elem == DType::f16) return pack_source<Widened<Half>>(panels, call);
  pack_source<F32>(panels, call);
}

}  // namespace shoal::ops::cpu
#pragma GCC pop_options
#else

namespace shoal::ops::cpu {
void pack_panels(float*, const PackCall&) {
  fail("product", "packed panels need AVX-512");
}
}  // namespace shoal::ops::cpu

#endif
