#pragma once

namespace shoal::ops::cpu {

/// Vector units of this processor that the operating system lets the process use. The build asks
/// for less (SHOAL_MARCH), so code for them sits in functions that are called only where they
/// exist.
struct CpuFeatures {
  bool avx512 = false;       ///< F, BW, DQ and VL
  bool avx512_bf16 = false;  ///< dot products of bf16 pairs with fp32 sums
  bool amx_bf16 = false;     ///< the same on tiles of 16 rows
};

/// Asked once a process; asks Linux for the tile registers.
[[nodiscard]] const CpuFeatures& cpu_features();

}  // namespace shoal::ops::cpu
