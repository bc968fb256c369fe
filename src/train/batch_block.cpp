#include "shoal/train/batch_block.hpp"

#include <cstring>

#include "shoal/base/error.hpp"
#include "shoal/base/math.hpp"

namespace shoal::train {
namespace {

constexpr std::int64_t kAlign = 256;
// Parts of a micro-batch in the block; all are i32 but the mask.
enum Part : int { kToken, kTarget, kDocStart, kPosition, kMask, kParts };

template <class T>
void place(std::byte* block, std::int64_t at, std::span<const T> values) {
  if (!values.empty()) std::memcpy(block + at, values.data(), values.size_bytes());
}

}  // namespace

BatchBlock::BatchBlock(const Exec& exec, const Sizes& sizes)
    : sizes_{sizes},
      tokens_{sizes.sequences * sizes.seq_len},
      micro_bytes_{kMask * round_up(tokens_ * size_of(DType::i32), kAlign) +
                   round_up(tokens_, kAlign)},
      first_token_(static_cast<std::size_t>(sizes.micro_batches), 0) {
  const std::int64_t bytes = sizes.micro_batches * micro_bytes_ + sizes.extra_bytes;
  device_ = persistent(exec, {bytes}, DType::u8, MemoryKind::batch);
  if (exec.is_dry()) return;
  for (HostBuffer& buffer : host_) buffer = HostBuffer{exec.device(), bytes};
}

std::int64_t BatchBlock::offset(std::int64_t micro_batch, int part) const {
  return micro_batch * micro_bytes_ + part * round_up(tokens_ * size_of(DType::i32), kAlign);
}

void BatchBlock::fill(int slot, std::int64_t micro_batch, const data::BatchView& view) {
  expect(
      view.sequence == sizes_.seq_len && static_cast<std::int64_t>(view.token_T.size()) == tokens_,
      "a micro-batch has another shape than planned");
  std::byte* host = host_.at(static_cast<std::size_t>(slot)).data();
  place(host, offset(micro_batch, kToken), view.token_T);
  place(host, offset(micro_batch, kTarget), view.target_T);
  place(host, offset(micro_batch, kDocStart), view.doc_start_T);
  place(host, offset(micro_batch, kPosition), view.position_T);
  place(host, offset(micro_batch, kMask), view.mask_T);
  first_token_[static_cast<std::size_t>(micro_batch)] = view.first_token;
}

std::byte* BatchBlock::host_extra(int slot) const {
  return host_.at(static_cast<std::size_t>(slot)).data() + sizes_.micro_batches * micro_bytes_;
}
std::byte* BatchBlock::device_extra() const {
  return device_.bytes_begin() + sizes_.micro_batches * micro_bytes_;
}

void BatchBlock::upload(const Exec& exec, int slot) const {
  const HostBuffer& host = host_.at(static_cast<std::size_t>(slot));
  shoal::upload(exec, device_.bytes_begin(), host.data(), device_.bytes());
}

nn::Batch BatchBlock::batch(std::int64_t micro_batch) const {
  const auto view = [&](int part, DType dtype) {
    return ConstTensorView{device_.bytes_begin() + offset(micro_batch, part), {tokens_}, dtype};
  };
  return {.token_T = view(kToken, DType::i32),
          .target_T = view(kTarget, DType::i32),
          .mask_T = view(kMask, DType::u8),
          .doc_start_T = view(kDocStart, DType::i32),
          .position_T = view(kPosition, DType::i32),
          .sequence = sizes_.seq_len,
          .first_token = first_token_[static_cast<std::size_t>(micro_batch)]};
}

}  // namespace shoal::train
