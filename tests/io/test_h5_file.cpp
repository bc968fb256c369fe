#include "shoal/io/h5_file.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <numeric>

#include "shoal/base/error.hpp"
#include "shoal/base/philox.hpp"
#include "shoal/io/atomic_file.hpp"
#include "support/temp_folder.hpp"
#include "support/throws.hpp"

namespace shoal::io {
namespace {

namespace fs = std::filesystem;

[[nodiscard]] std::vector<float> normal_values(std::int64_t count) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(
        philox::normal(philox::block(1, philox::Purpose::test, static_cast<std::uint64_t>(i))));
  }
  return values;
}

struct StorageCase {
  std::string name;
  Storage storage;
};
class StoredAs : public ::testing::TestWithParam<StorageCase> {};

// Chunks of 64 KiB; lengths around them, odd ones, and shapes whose last dimension is split.
TEST_P(StoredAs, ReadsBackEveryShape) {
  const test::TempFolder folder;
  ThreadPool pool{2};
  Storage storage = GetParam().storage;
  storage.chunk_bytes = 1 << 16;
  const std::vector<Shape> shapes{{0},       {1},          {16383},    {16384}, {16385},
                                  {3, 5, 7}, {40, 1009},   {2, 40000}, {0, 4},  {7, 3, 2, 4096},
                                  {70000},   {3, 2, 20000}};
  H5File out = H5File::create(folder / "x.h5");
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const auto values = normal_values(shapes[i].elements());
    out.write({.path = "/deep/group/d" + std::to_string(i), .shape = shapes[i], .storage = storage},
              std::as_bytes(std::span{values}), i % 2 == 0 ? &pool : nullptr);
  }
  out.commit();
  const H5File in = H5File::open(folder / "x.h5");
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const H5Dataset data = in.dataset("/deep/group/d" + std::to_string(i));
    EXPECT_EQ(data.shape(), shapes[i]);
    EXPECT_EQ(data.read_all<float>(), normal_values(shapes[i].elements())) << to_string(shapes[i]);
  }
}
INSTANTIATE_TEST_SUITE_P(Methods, StoredAs,
                         ::testing::Values(StorageCase{"deflate", {}},
                                           StorageCase{"deflate_plain", {.shuffle = false}},
                                           StorageCase{"zstd", {.compression = Compression::zstd}},
                                           StorageCase{"none", {.compression = Compression::none}}),
                         [](const auto& info) { return info.param.name; });

TEST(H5File, ReadsABoxOfAMatrix) {
  const test::TempFolder folder;
  std::vector<std::int32_t> values(6 * 10);
  std::iota(values.begin(), values.end(), 0);
  H5File out = H5File::create(folder / "x.h5");
  out.write({.path = "/m", .type = H5Type::i32, .shape = {6, 10}, .storage = {.chunk_bytes = 80}},
            std::as_bytes(std::span{values}), nullptr);
  out.commit();
  const H5File in = H5File::open(folder / "x.h5");
  EXPECT_EQ(in.dataset("/m").read_as<std::int32_t>({{4, 8}, {2, 2}}),
            (std::vector<std::int32_t>{48, 49, 58, 59}));
  EXPECT_THROW((void)in.dataset("/m").read_as<std::int32_t>({{5, 0}, {2, 1}}), Error);
  EXPECT_TRUE(test::throws_with<InputError>([&] { (void)in.dataset("/m").read_all<float>(); },
                                            "dataset /m holds i32 elements, expected f32"));
}

TEST(H5File, KeepsEveryElementType) {
  const test::TempFolder folder;
  H5File out = H5File::create(folder / "x.h5");
  const std::vector<H5Type> types{H5Type::f32, H5Type::bf16, H5Type::f16, H5Type::f64, H5Type::i32,
                                  H5Type::i64, H5Type::u8,   H5Type::u16, H5Type::u32, H5Type::u64};
  for (const H5Type type : types) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(3 * size_of(type)), std::byte{0x3C});
    out.write({.path = "/" + std::string{name(type)}, .type = type, .shape = {3}}, bytes, nullptr);
  }
  out.commit();
  const H5File in = H5File::open(folder / "x.h5");
  for (const H5Type type : types) {
    const H5Dataset data = in.dataset("/" + std::string{name(type)});
    EXPECT_EQ(data.type(), type);
    std::vector<std::byte> bytes(static_cast<std::size_t>(3 * size_of(type)));
    data.read(data.whole(), bytes);
    EXPECT_EQ(bytes, std::vector<std::byte>(bytes.size(), std::byte{0x3C})) << name(type);
  }
}

TEST(H5File, StreamsADatasetOfUnknownLength) {
  const test::TempFolder folder;
  ThreadPool pool{2};
  std::vector<std::uint16_t> values(100003);
  std::iota(values.begin(), values.end(), std::uint16_t{0});
  for (const std::size_t length : {std::size_t{0}, std::size_t{4096}, values.size()}) {
    H5File out = H5File::create(folder / "x.h5");
    H5Stream stream = out.stream(
        {.path = "/tokens", .type = H5Type::u16, .growing = true, .storage = {.chunk_bytes = 8192}},
        &pool);
    for (std::size_t at = 0; at < length; at += 977) {
      stream.append_values(std::span<const std::uint16_t>{values}.subspan(
          at, std::min<std::size_t>(977, length - at)));
    }
    stream.finish();
    out.commit();
    const auto read = H5File::open(folder / "x.h5").dataset("/tokens").read_all<std::uint16_t>();
    EXPECT_EQ(read, std::vector<std::uint16_t>(
                        values.begin(), values.begin() + static_cast<std::ptrdiff_t>(length)));
  }
}

TEST(H5File, AStreamMustFillItsShape) {
  const test::TempFolder folder;
  H5File out = H5File::create(folder / "x.h5");
  H5Stream stream = out.stream({.path = "/d", .shape = {4}}, nullptr);
  const std::vector<float> values(5);
  EXPECT_TRUE(test::throws_with<Error>([&] { stream.append_values(std::span{values}); }, "more"));
  stream.append_values(std::span<const float>{values}.first(3));
  EXPECT_TRUE(test::throws_with<Error>([&] { stream.finish(); }, "fewer"));
}

TEST(H5File, AttributesAndNames) {
  const test::TempFolder folder;
  H5File out = H5File::create(folder / "x.h5");
  out.create_group("/a/b");
  out.set_attribute("/", "count", std::int64_t{1} << 40);
  out.set_attribute("/a", "rate", 0.1);
  out.set_attribute("/a/b", "config", std::string(200000, 'x') + "ü");
  out.set_attribute("/a", "rate", 0.25);
  out.commit();
  const H5File in = H5File::open(folder / "x.h5");
  EXPECT_EQ(in.int_attribute("/", "count"), std::int64_t{1} << 40);
  EXPECT_EQ(in.double_attribute("/a", "rate"), 0.25);
  EXPECT_EQ(in.string_attribute("/a/b", "config").size(), 200002U);
  EXPECT_EQ(in.list("/a"), std::vector<std::string>{"b"});
  EXPECT_FALSE(in.has("/a/c"));
  EXPECT_FALSE(in.has_attribute("/a", "none"));
  EXPECT_TRUE(test::throws_with<InputError>([&] { (void)in.int_attribute("/a", "rate"); },
                                            "attribute rate of /a has another type"));
  EXPECT_TRUE(test::throws_with<InputError>([&] { (void)in.int_attribute("/a", "none"); },
                                            "attribute none of /a is missing"));
}

TEST(H5File, VirtualDatasetFollowsAMovedFolder) {
  const test::TempFolder folder;
  const fs::path first = folder / "first";
  fs::create_directories(first);
  const std::vector<std::uint16_t> halves[] = {{0, 1, 2, 10, 11, 12}, {3, 4, 13, 14}};
  const Shape shapes[] = {{2, 3}, {2, 2}};
  std::vector<VirtualPiece> pieces;
  for (int i = 0; i < 2; ++i) {
    const std::string name = "rank-" + std::to_string(i) + ".h5";
    H5File out = H5File::create(first / name);
    out.write({.path = "/w", .type = H5Type::bf16, .shape = shapes[i]},
              std::as_bytes(std::span{halves[i]}), nullptr);
    out.commit();
    pieces.push_back({name,
                      "/w",
                      shapes[i],
                      {{0, 0}, {2, shapes[i][1]}},
                      {{0, i == 0 ? 0 : 3}, {2, shapes[i][1]}}});
  }
  H5File index = H5File::create(first / "index.h5");
  index.write_virtual({.path = "/model/w", .type = H5Type::bf16, .shape = {2, 5}}, pieces);
  index.commit();
  fs::rename(first, folder / "second");
  const H5File in = H5File::open(folder / "second/index.h5");
  const H5Dataset data = in.dataset("/model/w");
  EXPECT_TRUE(data.is_virtual());
  EXPECT_EQ(data.type(), H5Type::bf16);
  std::vector<std::uint16_t> bits(10);
  data.read(data.whole(), std::as_writable_bytes(std::span{bits}));
  EXPECT_EQ(bits, (std::vector<std::uint16_t>{0, 1, 2, 3, 4, 10, 11, 12, 13, 14}));
}

TEST(H5File, AFlippedByteFailsTheReadAndNamesTheDataset) {
  const test::TempFolder folder;
  const auto values = normal_values(50000);
  H5File out = H5File::create(folder / "x.h5");
  out.write_values<float>("/w", values);
  out.commit();
  std::string bytes = read_file(folder / "x.h5", 1 << 22);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  std::ofstream{folder / "x.h5", std::ios::binary} << bytes;
  const H5File in = H5File::open(folder / "x.h5");
  const auto read = [&] { (void)in.dataset("/w").read_all<float>(); };
  EXPECT_TRUE(test::throws_with<InputError>(read, "x.h5: dataset /w [0:50000] cannot be read"));
  EXPECT_TRUE(test::throws_with<InputError>(read, "Fletcher32"));
}

TEST(H5File, RefusesWhatIsNotOrNoLongerHdf5) {
  const test::TempFolder folder;
  write_file_atomically(folder / "text", "tokens, tokens");
  EXPECT_TRUE(test::throws_with<InputError>([&] { (void)H5File::open(folder / "text"); },
                                            "text is not an HDF5 file"));
  EXPECT_TRUE(test::throws_with<InputError>([&] { (void)H5File::open(folder / "none"); },
                                            "none: no such file"));
  H5File out = H5File::create(folder / "x.h5");
  out.write_values<float>("/w", normal_values(5000));
  out.commit();
  fs::resize_file(folder / "x.h5", 3000);
  EXPECT_TRUE(test::throws_with<InputError>([&] { (void)H5File::open(folder / "x.h5"); },
                                            "x.h5: damaged HDF5 file"));
}

TEST(H5File, WithoutCommitNothingAppears) {
  const test::TempFolder folder;
  {
    H5File out = H5File::create(folder / "x.h5");
    out.write_values<float>("/w", normal_values(10));
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

}  // namespace
}  // namespace shoal::io
