#include "shoal/data/batch.hpp"

#include <algorithm>

#include "shoal/base/error.hpp"

namespace shoal::data {

BatchArrays::BatchArrays(const BatchLayout& layout) : layout_{layout} {
  require(layout.sequence >= 1, "the sequence length must be at least 1");
  require(layout.micro_batch >= 1 && layout.sequences >= 1 &&
              layout.sequences % layout.micro_batch == 0,
          "micro_batch " + std::to_string(layout.micro_batch) + " must divide the " +
              std::to_string(layout.sequences) + " sequences of a rank");
  const auto tokens = static_cast<std::size_t>(layout.sequence * layout.sequences);
  for (auto* array : {&token_, &target_, &doc_start_, &position_}) array->reserve(tokens);
  mask_.reserve(tokens);
}

void BatchArrays::clear(std::int64_t first_sequence) {
  first_sequence_ = first_sequence;
  for (auto* array : {&token_, &target_, &doc_start_, &position_}) array->clear();
  mask_.clear();
}

void BatchArrays::push(const Pair& pair, bool new_document) {
  const auto index = std::ssize(token_);
  expect(index < layout_.sequence * layout_.sequences, "the batch is full");
  const auto local = static_cast<std::int32_t>(index % (layout_.sequence * layout_.micro_batch));
  const bool starts = new_document || index % layout_.sequence == 0;
  const std::int32_t document = starts ? local : doc_start_.back();
  token_.push_back(pair.token);
  target_.push_back(pair.target);
  doc_start_.push_back(document);
  position_.push_back(local - document);
  mask_.push_back(pair.counts ? 1 : 0);
}

void BatchArrays::append(std::span<const std::int32_t> tokens) {
  bool new_document = !layout_.cross_document;  // what came before is from elsewhere
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
    const bool ends = tokens[i] == layout_.eos_id && !layout_.cross_document;
    push({.token = tokens[i], .target = tokens[i + 1], .counts = !ends}, new_document);
    new_document = ends;
  }
}

void BatchArrays::pad_sequence() {
  bool new_document = true;
  while (token_.empty() || std::ssize(token_) % layout_.sequence != 0 || new_document) {
    push({.token = layout_.eos_id, .target = layout_.eos_id, .counts = false}, new_document);
    new_document = false;
  }
}

BatchView BatchArrays::view(std::int64_t index) const {
  expect(std::ssize(token_) == layout_.sequence * layout_.sequences, "the batch is not full yet");
  const std::int64_t count = layout_.sequence * layout_.micro_batch;
  const auto part = [&]<class T>(const std::vector<T>& all) {
    return std::span<const T>{all}.subspan(static_cast<std::size_t>(index * count),
                                           static_cast<std::size_t>(count));
  };
  BatchView view{.token_T = part(token_),
                 .target_T = part(target_),
                 .doc_start_T = part(doc_start_),
                 .position_T = part(position_),
                 .mask_T = part(mask_),
                 .sequence = layout_.sequence,
                 .first_token = (first_sequence_ + index * layout_.micro_batch) * layout_.sequence};
  view.targets = std::count(view.mask_T.begin(), view.mask_T.end(), std::uint8_t{1});
  return view;
}

std::int64_t BatchArrays::targets() const {
  return std::count(mask_.begin(), mask_.end(), std::uint8_t{1});
}

}  // namespace shoal::data
