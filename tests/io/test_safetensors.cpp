#include "shoal/io/safetensors.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "shoal/base/error.hpp"
#include "shoal/io/atomic_file.hpp"
#include "support/temp_folder.hpp"
#include "support/throws.hpp"

namespace shoal::io {
namespace {

namespace fs = std::filesystem;
using test::throws_with;

[[nodiscard]] std::vector<float> ramp(std::int64_t count) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(i) * 0.5F);
  return values;
}

/// Elements of a ramp as `dtype`.
[[nodiscard]] std::vector<std::byte> stored_ramp(const SafeTensor& tensor) {
  const auto values = ramp(tensor.shape.elements());
  std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.bytes()));
  with_elem(tensor.dtype, [&](auto elem) {
    using Elem = decltype(elem);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const Elem x = from_float<Elem>(values[i]);
      std::memcpy(bytes.data() + i * sizeof x, &x, sizeof x);
    }
  });
  return bytes;
}

[[nodiscard]] std::vector<SafeTensor> some_tensors() {
  return {{"model.z", DType::f32, {3, 5}},
          {"model.a", DType::bf16, {7}},
          {"model.empty", DType::f32, {0, 4}},
          {"model.scalar", DType::f16, {}},
          {"lm_head", DType::f16, {2, 2, 2}}};
}

void write(const fs::path& folder, std::int64_t max_shard_bytes) {
  SafeTensorsWriter writer{folder, some_tensors(), {.max_shard_bytes = max_shard_bytes}};
  for (const SafeTensor& t : some_tensors()) writer.write(t.name, stored_ramp(t));
  writer.finish();
}

void expect_all(const SafeTensorsReader& reader) {
  EXPECT_EQ(reader.tensors().size(), some_tensors().size());
  for (const SafeTensor& t : some_tensors()) {
    const auto found = reader.find(t.name);
    ASSERT_TRUE(found.has_value()) << t.name;
    EXPECT_EQ(found->shape, t.shape);
    EXPECT_EQ(found->dtype, t.dtype);
    EXPECT_EQ(reader.read_floats(t.name), ramp(t.shape.elements())) << t.name;
  }
}

TEST(SafeTensors, OneFileReadsBack) {
  const test::TempFolder folder;
  write(folder.path(), 1 << 20);
  EXPECT_FALSE(fs::exists(folder / "model.safetensors.index.json"));
  expect_all(SafeTensorsReader{folder.path()});
  expect_all(SafeTensorsReader{folder / "model.safetensors"});
  const SafeTensorsReader reader{folder.path()};
  float one = 0.0F;
  reader.read("model.z", 4 * 6, std::as_writable_bytes(std::span{&one, 1}));
  EXPECT_EQ(one, 3.0F);
  EXPECT_TRUE(throws_with<InputError>([&] { (void)reader.read_floats("none"); }, "no tensor none"));
}

TEST(SafeTensors, ShardsReadBackThroughTheirIndex) {
  const test::TempFolder folder;
  write(folder.path(), 60);  // model.z alone, the rest together
  EXPECT_TRUE(fs::exists(folder / "model-00002-of-00002.safetensors"));
  EXPECT_EQ(read_json_file(folder / "model.safetensors.index.json")["metadata"]["total_size"], 92);
  expect_all(SafeTensorsReader{folder.path()});
}

TEST(SafeTensors, AMissingShardOrTensorIsNamed) {
  const test::TempFolder folder;
  write(folder.path(), 60);
  const fs::path index = folder / "model.safetensors.index.json";
  Json json = read_json_file(index);
  const auto refused = [&](const std::string& why) {
    write_json_file(index, json);
    return throws_with<InputError>([&] { SafeTensorsReader{folder.path()}; }, why);
  };
  json["weight_map"]["ghost"] = "model-00001-of-00002.safetensors";
  EXPECT_TRUE(refused("tensor ghost is not in model-00001"));
  json["weight_map"].erase("ghost");
  json["weight_map"].erase("lm_head");
  EXPECT_TRUE(refused("lists 4 tensors, its files hold 5"));
  json["weight_map"]["lm_head"] = "../model.safetensors";
  EXPECT_TRUE(refused("not a plain file name"));
  json["weight_map"]["lm_head"] = "model-00002-of-00002.safetensors";
  EXPECT_NO_THROW(write_json_file(index, json));
  fs::remove(folder / "model-00002-of-00002.safetensors");
  EXPECT_TRUE(refused("model-00002-of-00002.safetensors: No such file"));
}

TEST(SafeTensors, TheWriterKeepsToItsList) {
  const test::TempFolder folder;
  SafeTensorsWriter writer{folder.path(), some_tensors()};
  EXPECT_THROW(writer.write("model.a", stored_ramp(some_tensors()[1])), Error);
  EXPECT_THROW(writer.finish(), Error);
}

struct Hostile {
  std::string name;
  std::string header;
  std::int64_t data_bytes;
  std::string why;
};
class HostileSafeTensors : public ::testing::TestWithParam<Hostile> {};

[[nodiscard]] std::string file_with(const std::string& header, std::uint64_t length,
                                    std::int64_t data_bytes) {
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + header + std::string(static_cast<std::size_t>(data_bytes), 'd');
}

TEST_P(HostileSafeTensors, IsRefusedWithTheReason) {
  const test::TempFolder folder;
  const auto& [name, header, data_bytes, why] = GetParam();
  write_file_atomically(folder / "x.safetensors", file_with(header, header.size(), data_bytes));
  EXPECT_TRUE(throws_with<InputError>([&] { SafeTensorsReader{folder / "x.safetensors"}; }, why));
}

INSTANTIATE_TEST_SUITE_P(
    Headers, HostileSafeTensors,
    ::testing::Values(
        Hostile{"not_json", "{", 0, "x.safetensors: line 1"},
        Hostile{"array", "[]", 0, "not a JSON object"},
        Hostile{"duplicate",
                R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                4, "twice"},
        Hostile{"dtype", R"({"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}})", 4,
                "dtype I32"},
        Hostile{"size", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4,
                "do not fit"},
        Hostile{"reversed", R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[4,0]}})", 4,
                "do not fit"},
        Hostile{"beyond", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4,
                "take 8 bytes"},
        Hostile{"unused", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 5,
                "take 4 bytes"},
        Hostile{"hole", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, "hole"},
        Hostile{"overlap",
                R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                R"("b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                8, "overlaps"},
        Hostile{"negative", R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4,
                "whole numbers"},
        Hostile{"overflow",
                R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", 0,
                "impossible shape"},
        Hostile{"huge",
                R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})", 4,
                "whole numbers"},
        Hostile{"rank", R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1],"data_offsets":[0,4]}})", 4,
                "at most 5"},
        Hostile{"extra", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", 4,
                "exactly"},
        Hostile{"zero_outside", R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[99,99]}})", 0,
                "hole"}),
    [](const auto& info) { return info.param.name; });

TEST(SafeTensors, LengthFieldsAreNotBelieved) {
  const test::TempFolder folder;
  const auto refused = [&](const std::string& bytes, const std::string& why) {
    write_file_atomically(folder / "x.safetensors", bytes);
    return throws_with<InputError>([&] { SafeTensorsReader{folder / "x.safetensors"}; }, why);
  };
  EXPECT_TRUE(refused("short", "too short"));
  EXPECT_TRUE(refused(file_with("{}", 3, 0), "ends inside its header"));
  EXPECT_TRUE(refused(file_with("{}", 100'000'001, 0), "allowed are 100000000"));
  EXPECT_TRUE(refused(file_with("{}", ~std::uint64_t{0}, 0), "allowed are 100000000"));
  EXPECT_TRUE(refused(file_with("", 0, 0), "not a JSON object"));
}

}  // namespace
}  // namespace shoal::io
