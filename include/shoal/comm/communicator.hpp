#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "shoal/comm/journal.hpp"
#include "shoal/comm/pending_send.hpp"
#include "shoal/comm/posted_collective.hpp"

namespace shoal::comm {

class Transport;  // moves bytes: MPI, or a group of one
enum class ReduceOp { sum, max, min };
enum class ElementType { f32, f64, i32, i64, u8, u32, u64, f16, bf16 };

template <class T>
concept Element =
    std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, std::int32_t> ||
    std::same_as<T, std::int64_t> || std::same_as<T, std::uint8_t> ||
    std::same_as<T, std::uint32_t> || std::same_as<T, std::uint64_t>;

/// A span, vector or array of elements: counts come from its size, the type from its elements.
template <class R>
concept ElementRange = std::ranges::contiguous_range<R> && std::ranges::sized_range<R> &&
    Element<std::ranges::range_value_t<R>>;
template <class R>
using ElementOf = std::ranges::range_value_t<R>;

template <Element T>
[[nodiscard]] constexpr ElementType element_type() {
  if constexpr (std::same_as<T, float>) return ElementType::f32;
  if constexpr (std::same_as<T, double>) return ElementType::f64;
  if constexpr (std::same_as<T, std::int32_t>) return ElementType::i32;
  if constexpr (std::same_as<T, std::int64_t>) return ElementType::i64;
  if constexpr (std::same_as<T, std::uint8_t>) return ElementType::u8;
  if constexpr (std::same_as<T, std::uint32_t>) return ElementType::u32;
  if constexpr (std::same_as<T, std::uint64_t>) return ElementType::u64;
}
[[nodiscard]] std::int64_t size_of(ElementType type);

/// Host buffers of an all_to_all_v; blocks lie back to back in rank order. Counts are elements.
template <Element T>
struct AllToAllV {
  std::span<const T> send;
  std::span<const std::int64_t> send_counts;  ///< one a rank, sum = send.size()
  std::span<T> recv;
  std::span<const std::int64_t> recv_counts;  ///< one a rank, sum = recv.size()
};

struct CommOptions {
  std::int64_t trace_capacity = 2000;
  /// Compare operation and size over the ranks before each collective: one more message each,
  /// turns a mismatch (otherwise a hang or garbage) into an Error. For tests and hunts.
  bool verify_sizes = false;
};

/// A group of ranks. Collectives are called by every member in the same order. Reductions run in
/// rank order by our own arithmetic, so that the same ranks give the same bits whatever algorithm
/// the MPI library picks; bf16 and fp16 are summed in fp32 and rounded once. Sizes are checked at
/// one gate, which also writes the journal. A group of one copies memory and needs no MPI.
class Communicator {
 public:
  /// All ranks of the job; needs a living Environment. Starts a journal of its own.
  [[nodiscard]] static Communicator world(const CommOptions& options = {});
  [[nodiscard]] static Communicator self(const CommOptions& options = {});
  /// A place in a group that does not exist, to plan a rank of any layout on a dry Exec: every
  /// operation is an Error. Needs no MPI.
  [[nodiscard]] static Communicator on_paper(int rank, int size, std::string name = "paper");

  Communicator(Communicator&&) noexcept;
  Communicator& operator=(Communicator&&) noexcept;
  ~Communicator();

  /// Ranks of equal `color` (>= 0) form a group, ordered by `key`, then by rank. Collective.
  struct Split {
    int color = 0;
    int key = 0;
    std::string name = "group";  ///< shown in the trace
  };
  [[nodiscard]] Communicator split(const Split& how) const;

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] bool is_root() const { return rank_ == 0; }
  [[nodiscard]] bool is_on_paper() const;
  [[nodiscard]] const std::string& group_name() const { return name_; }
  [[nodiscard]] const std::shared_ptr<Journal>& journal() const { return journal_; }
  /// What Journal::begin takes for operations of this group that do not pass its gate.
  [[nodiscard]] int journal_group() const { return group_index_; }

  void barrier() const;

  /// Rank `root`'s data on every rank; equal sizes everywhere.
  template <ElementRange R>
  void broadcast(R&& data, int root) const {
    broadcast_bytes(std::as_writable_bytes(std::span{data}), root);
  }
  /// In place, element by element; equal sizes everywhere.
  template <ElementRange R>
  void all_reduce(R&& data, ReduceOp op) const {
    all_reduce_bytes(std::as_writable_bytes(std::span{data}), element_type<ElementOf<R>>(), op);
  }
  template <Element T>
  [[nodiscard]] T all_reduce_value(T value, ReduceOp op) const {
    all_reduce(std::span{&value, 1}, op);
    return value;
  }
  /// recv.size() = size() * send.size(); equal sizes everywhere.
  template <ElementRange S, ElementRange R>
  requires std::same_as<ElementOf<S>, ElementOf<R>>
  void all_gather(const S& send, R&& recv) const {
    all_gather_bytes(std::as_bytes(std::span{send}), std::as_writable_bytes(std::span{recv}));
  }
  template <Element T>
  [[nodiscard]] std::vector<T> all_gather_value(T value) const {
    std::vector<T> all(static_cast<std::size_t>(size_));
    all_gather(std::span{&value, 1}, all);
    return all;
  }
  /// Parts of any size, concatenated in rank order on every rank.
  template <ElementRange S>
  [[nodiscard]] std::vector<ElementOf<S>> all_gather_v(const S& send) const {
    const auto counts = all_gather_value(static_cast<std::int64_t>(std::size(send)));
    std::vector<ElementOf<S>> all(total(counts));
    all_gather_v_bytes({std::as_bytes(std::span{send}), counts,
                        std::as_writable_bytes(std::span{all}), sizeof(ElementOf<S>)});
    return all;
  }
  /// Parts of any size, concatenated in rank order on `root`; empty elsewhere.
  template <ElementRange S>
  [[nodiscard]] std::vector<ElementOf<S>> gather_v(const S& send, int root) const {
    const auto counts = all_gather_value(static_cast<std::int64_t>(std::size(send)));
    std::vector<ElementOf<S>> all(rank_ == root ? total(counts) : 0);
    gather_v_bytes({std::as_bytes(std::span{send}), counts, std::as_writable_bytes(std::span{all}),
                    sizeof(ElementOf<S>)},
                   root);
    return all;
  }
  /// Block r of `send` goes to rank r; equal blocks, equal sizes everywhere.
  template <ElementRange S, ElementRange R>
  requires std::same_as<ElementOf<S>, ElementOf<R>>
  void all_to_all(const S& send, R&& recv) const {
    all_to_all_bytes(std::as_bytes(std::span{send}), std::as_writable_bytes(std::span{recv}));
  }
  template <Element T>
  void all_to_all_v(const AllToAllV<T>& a) const {
    all_to_all_v_bytes({std::as_bytes(a.send),
                        a.send_counts,
                        std::as_writable_bytes(a.recv),
                        a.recv_counts,
                        sizeof(T),
                        {}});
  }
  /// Blocking, in order between each pair of ranks; sizes are known on both sides.
  template <ElementRange S>
  void send(const S& data, int to) const {
    send_bytes(std::as_bytes(std::span{data}), to);
  }
  template <ElementRange R>
  void recv(R&& data, int from) const {
    recv_bytes(std::as_writable_bytes(std::span{data}), from);
  }

  [[nodiscard]] std::string broadcast_string(std::string_view text, int root) const;
  /// Every rank's text in rank order on `root`; empty elsewhere.
  [[nodiscard]] std::vector<std::string> gather_strings(std::string_view text, int root) const;
  [[nodiscard]] std::vector<std::string> all_gather_strings(std::string_view text) const;

  // The same on raw bytes, for device staging and for types of other layers.
  struct GatherV {
    std::span<const std::byte> send;
    std::span<const std::int64_t> counts;  ///< elements, one a rank
    std::span<std::byte> recv;
    std::int64_t element_bytes = 1;
  };
  struct AllToAllVBytes {
    std::span<const std::byte> send;
    std::span<const std::int64_t> send_counts;
    std::span<std::byte> recv;
    std::span<const std::int64_t> recv_counts;
    std::int64_t element_bytes = 1;
    std::function<void()> overlap = {};  ///< optional, runs once while the messages are under way
  };
  void broadcast_bytes(std::span<std::byte> data, int root) const;
  void all_reduce_bytes(std::span<std::byte> data, ElementType type, ReduceOp op) const;
  /// send = size() equal blocks; recv = the sum (max, min) over ranks of their block rank().
  void reduce_scatter_bytes(std::span<const std::byte> send, std::span<std::byte> recv,
                            ElementType type, ReduceOp op) const;
  void all_gather_bytes(std::span<const std::byte> send, std::span<std::byte> recv) const;

  // The same started only. Every member starts posted collectives in the same order among
  // themselves and among the all_to_all_v, reduce_scatter and all_reduce that wait; they are moved
  // on and end in that order.
  struct PostedReduceScatter {
    std::span<const std::byte> send;  ///< size() equal blocks
    std::span<std::byte> recv;
    std::span<std::byte> workspace;  ///< of posted_workspace(send.size(), size()) bytes
    ElementType type = ElementType::f32;
    ReduceOp op = ReduceOp::sum;
  };
  struct PostedAllReduce {
    std::span<std::byte> data;
    std::span<std::byte> workspace;  ///< of posted_workspace(data.size(), size()) bytes
    ElementType type = ElementType::f32;
    ReduceOp op = ReduceOp::sum;
  };
  [[nodiscard]] static std::int64_t posted_workspace(std::int64_t bytes, int ranks);
  [[nodiscard]] std::unique_ptr<PostedCollective> post_reduce_scatter_bytes(
      const PostedReduceScatter& args) const;
  [[nodiscard]] std::unique_ptr<PostedCollective> post_all_reduce_bytes(
      const PostedAllReduce& args) const;
  [[nodiscard]] std::unique_ptr<PostedCollective> post_all_gather_bytes(
      std::span<const std::byte> send, std::span<std::byte> recv) const;
  void all_gather_v_bytes(const GatherV& args) const;
  void gather_v_bytes(const GatherV& args, int root) const;
  void all_to_all_bytes(std::span<const std::byte> send, std::span<std::byte> recv) const;
  /// The journal counts the bytes for other ranks: the own block is a copy.
  void all_to_all_v_bytes(const AllToAllVBytes& args) const;
  void send_bytes(std::span<const std::byte> data, int to) const;
  void recv_bytes(std::span<std::byte> data, int from) const;
  /// Returns at once; `tag` (2 to 32767) tells messages between the same two ranks apart.
  [[nodiscard]] PendingSend post_send_bytes(std::span<const std::byte> data, int to, int tag) const;
  /// Waits for a posted message; the wait stands in the journal.
  void wait_send(PendingSend& pending) const;
  void recv_tagged_bytes(std::span<std::byte> data, int from, int tag) const;
  /// Sends to one rank while receiving from another (a ring shift, a pipeline exchange).
  struct SendRecv {
    std::span<const std::byte> send;
    int to = 0;
    std::span<std::byte> recv;
    int from = 0;
  };
  void send_recv_bytes(const SendRecv& args) const;

 private:
  struct Parts;
  class Gate;
  explicit Communicator(Parts parts);
  [[nodiscard]] Gate gate(Operation op, std::int64_t bytes) const;
  [[nodiscard]] std::int64_t post_entry(Operation op, std::int64_t bytes) const;
  void verify(Operation op, std::int64_t bytes) const;
  void check_rank(int rank, std::string_view what) const;
  [[nodiscard]] std::byte* scratch(std::int64_t bytes) const;
  [[nodiscard]] static std::size_t total(std::span<const std::int64_t> counts);

  std::unique_ptr<Transport> transport_;
  std::shared_ptr<Journal> journal_;
  std::string name_;
  int rank_ = 0;
  int size_ = 1;
  bool verify_sizes_ = false;
  std::uint64_t group_id_ = 0;  ///< the same on all members, another for every group of a rank
  int group_index_ = -1;        ///< in the journal
  mutable std::uint64_t num_splits_ = 0;
  mutable std::vector<std::byte> scratch_;  ///< of reductions, reused; bounded by the chunk size
};

}  // namespace shoal::comm

namespace shoal {
using comm::Communicator;
}
