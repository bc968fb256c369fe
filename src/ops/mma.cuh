#pragma once
// Warp-level matrix products (mma.sync m16n8k16, fp32 sums), the shared-memory loads that feed them
// (ldmatrix) and asynchronous copies into shared memory (cp.async), as the PTX ISA defines them.
// Lane l of a warp is written (g, t) = (l / 4, l % 4).
#include "ops/cuda_common.cuh"

namespace shoal::ops::cuda {

/// 16 x 16 operand a: register 0 holds (row g, k 2t and 2t+1), 1: row g+8, 2: k+8, 3: both.
struct FragmentA {
  unsigned r[4];
};
/// 16 x 8 operand b: register 0 holds (k 2t and 2t+1, column g), 1: k+8.
struct FragmentB {
  unsigned r[2];
};
/// 16 x 8 sums: values 0, 1 are (row g, columns 2t and 2t+1), values 2, 3 the same of row g+8.
struct FragmentC {
  float r[4];
};

__device__ inline unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// ---- ldmatrix: lane l gives the address of row l % 8 of matrix l / 8 ----

__device__ inline void load_matrix(unsigned (&r)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
__device__ inline void load_matrix_transposed(unsigned (&r)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

/// A tile in shared memory: element (row, column) at data[row * pitch + column]. A pitch of an odd
/// number of 16-byte units keeps the eight rows of a matrix in different banks.
template <class Elem, int kPitch>
struct SharedTile {
  static_assert(kPitch % 8 == 0 && kPitch / 8 % 2 == 1);
  Elem* data;
  [[nodiscard]] __device__ unsigned at(int row, int column) const {
    return shared_address(data + row * kPitch + column);
  }
};

/// a from rows [row, row+16) and k columns [k, k+16) of a tile stored [row][k].
template <class Tile>
__device__ inline FragmentA load_a(const Tile& tile, int row, int k, int lane) {
  FragmentA f;
  load_matrix(f.r, tile.at(row + lane % 16, k + lane / 16 * 8));
  return f;
}
/// The same from a tile stored [k][row].
template <class Tile>
__device__ inline FragmentA load_a_transposed(const Tile& tile, int row, int k, int lane) {
  FragmentA f;
  load_matrix_transposed(f.r, tile.at(k + lane % 8 + lane / 16 * 8, row + lane / 8 % 2 * 8));
  return f;
}
/// b for columns [column, column+16), two fragments, from a tile stored [column][k].
template <class Tile>
__device__ inline void load_b(FragmentB (&f)[2], const Tile& tile, int column, int k, int lane) {
  unsigned r[4];
  load_matrix(r, tile.at(column + lane % 8 + lane / 16 * 8, k + lane / 8 % 2 * 8));
  f[0] = {{r[0], r[1]}};
  f[1] = {{r[2], r[3]}};
}
/// The same from a tile stored [k][column].
template <class Tile>
__device__ inline void load_b_transposed(FragmentB (&f)[2], const Tile& tile, int column, int k,
                                         int lane) {
  unsigned r[4];
  load_matrix_transposed(r, tile.at(k + lane % 16, column + lane / 16 * 8));
  f[0] = {{r[0], r[1]}};
  f[1] = {{r[2], r[3]}};
}

// ---- products ----

/// c += a b.
template <class Elem>
__device__ inline void multiply_add(FragmentC& c, const FragmentA& a, const FragmentB& b) {
  if constexpr (std::is_same_v<Elem, __nv_bfloat16>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c.r[0]), "+f"(c.r[1]), "+f"(c.r[2]), "+f"(c.r[3])
        : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c.r[0]), "+f"(c.r[1]), "+f"(c.r[2]), "+f"(c.r[3])
        : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
  }
}

/// Two values rounded into one register, x in the low half.
template <class Elem>
__device__ inline unsigned pack(float x, float y) {
  const Elem low = from_float<Elem>(x), high = from_float<Elem>(y);
  return static_cast<unsigned>(reinterpret_cast<const unsigned short&>(low)) |
         static_cast<unsigned>(reinterpret_cast<const unsigned short&>(high)) << 16;
}
/// Sums of columns [16 i, 16 i + 16) as the operand a of a next product: the layouts meet.
template <class Elem>
__device__ inline FragmentA as_operand(const FragmentC& left, const FragmentC& right) {
  return {{pack<Elem>(left.r[0], left.r[1]), pack<Elem>(left.r[2], left.r[3]),
           pack<Elem>(right.r[0], right.r[1]), pack<Elem>(right.r[2], right.r[3])}};
}

// ---- asynchronous copies ----

/// 16 bytes from global to shared memory; zeros, and nothing is read, unless `valid`.
__device__ inline void copy_async(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
               "l"(global), "r"(valid ? 16 : 0)
               : "memory");
}
/// Four bytes, likewise.
__device__ inline void copy_word_async(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)),
               "l"(global), "r"(valid ? 4 : 0)
               : "memory");
}
__device__ inline void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits until at most N of this thread's latest groups are under way.
template <int N>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/// Eight elements from global to shared memory, the first `valid` of them real, the rest zeros.
/// With kVector they are 16-byte aligned and all or none is real; else copied one by one.
template <bool kVector, class Elem>
__device__ inline void copy_eight(Elem* shared, const Elem* global, const Elem* safe, int valid) {
  if constexpr (kVector) {
    copy_async(shared, valid > 0 ? global : safe, valid > 0);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) shared[i] = i < valid ? global[i] : from_float<Elem>(0.0F);
  }
}

}  // namespace shoal::ops::cuda
