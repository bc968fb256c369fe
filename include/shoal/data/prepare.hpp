#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "shoal/comm/communicator.hpp"
#include "shoal/data/source.hpp"
#include "shoal/text/bpe_trainer.hpp"
#include "shoal/text/clean.hpp"

namespace shoal::data {

/// What `shoal prepare` does; section [prepare] of an input file.
struct PrepareConfig {
  // What changes the tokens.
  SourceConfig source;                 ///< inputs and how they are cut into documents
  text::CleanConfig clean;             ///< section [clean]
  std::string tokenizer = "train";     ///< train | bytes | path of a tokenizer.json
  std::string eos_token;               ///< of a tokenizer.json; empty = the usual name it has
  text::BpeTrainConfig training;       ///< section [tokenizer], for tokenizer = train
  std::int64_t train_sample_mb = 256;  ///< text the tokenizer is trained on, about; >= 1
  double val_fraction = 0.01;          ///< share of the text that goes to OUTPUT/val, 0 to 0.5
  std::string val_split = "hash";  ///< hash: whole documents by key | tail: end of each document
  std::int64_t shard_mb = 0;       ///< input megabytes a shard; 0 = by the size of the corpus
  // Where to.
  std::string output;      ///< folder: tokenizer.json, report.json, train/, val/
  bool overwrite = false;  ///< replace an output folder that `prepare` made before
};

/// Appends every problem found.
void validate(const PrepareConfig& config, std::vector<std::string>& problems);

/// Counts of one run; equal on all ranks, and for any number of ranks except the time.
struct PrepareReport {
  SourceReport source;
  text::CleanReport clean;
  std::int64_t train_documents = 0;
  std::int64_t train_tokens = 0;  ///< with the one that ends each document
  std::int64_t val_documents = 0;
  std::int64_t val_tokens = 0;
  std::int64_t shards = 0;  ///< train and val
  std::int64_t vocab_size = 0;
  std::string tokenizer_hash;
  double seconds = 0.0;

  [[nodiscard]] std::string describe() const;  ///< for people, a line a count
};

/// Text files to token shards, on all ranks of `comm` together: two passes over the input. Pass 1
/// cleans, takes keys and counts words; then duplicates are found over all ranks (the first in the
/// order of inputs stays) and the tokenizer is trained on rank 0; pass 2 cleans again, tokenises
/// and writes. The cut of the input into shards depends on file sizes alone, and every shard is
/// made by one rank, so shards are the same bytes for any number of ranks.
///
/// Memory of a rank, whatever the size of the corpus: a few documents (max_document_mb each, about
/// ten times that in working buffers), one HDF5 chunk, 4 MiB of tokenizer cache, the list of input
/// files, 24 bytes for each of its documents (three times that while keys are compared), and with
/// tokenizer = train the distinct words of its part of train_sample_mb; rank 0 holds those of all.
///
/// The output appears under its name when it is complete, or not at all. Throws the same InputError
/// on every rank for what the user can get wrong, Error when the disk is full.
[[nodiscard]] PrepareReport prepare(const PrepareConfig& config, const Communicator& comm);

}  // namespace shoal::data
