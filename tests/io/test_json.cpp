#include "shoal/io/json.hpp"

#include <gtest/gtest.h>

#include "shoal/io/atomic_file.hpp"
#include "support/temp_folder.hpp"
#include "support/throws.hpp"

namespace shoal::io {
namespace {

TEST(Json, RoundTripsThroughACanonicalFile) {
  const test::TempFolder folder;
  const Json value = parse_json(R"({"b": [1, 0.1, "ü"], "a": {"z": null}})", "text");
  write_json_file(folder / "x.json", value);
  EXPECT_EQ(read_json_file(folder / "x.json"), value);
  EXPECT_EQ(canonical_dump(parse_json(R"({"a":{"z":null},"b":[1,0.1,"ü"]})", "t")),
            canonical_dump(value));
}

TEST(Json, NamesFileAndPosition) {
  EXPECT_TRUE(test::throws_with<InputError>([] { (void)parse_json("{\n \"a\": ]", "my.json"); },
                                            "my.json: line 2, column 7"));
  EXPECT_TRUE(
      test::throws_with<InputError>([] { (void)parse_json("{} {}", "my.json"); }, "my.json"));
}

TEST(Json, RefusesRepeatedKeys) {
  EXPECT_TRUE(test::throws_with<InputError>(
      [] { (void)parse_json(R"({"a": {"k": 1, "j": 2, "k": 3}})", "my.json"); },
      "my.json: key \"k\" occurs twice"));
  EXPECT_NO_THROW((void)parse_json(R"({"a": {"k": 1}, "b": {"k": 1}})", "my.json"));
}

TEST(Json, FieldsNameWhatIsWrong) {
  const Json object = parse_json(R"({"count": -1, "name": "x", "real": 1.5})", "f");
  EXPECT_EQ(get_field<std::int64_t>(object, "count", "f"), -1);
  EXPECT_EQ(get_field_or<std::string>(object, "other", "none", "f"), "none");
  EXPECT_TRUE(test::throws_with<InputError>(
      [&] { (void)get_field<std::int64_t>(object, "size", "f"); }, "f: key \"size\" is missing"));
  EXPECT_TRUE(test::throws_with<InputError>(
      [&] { (void)get_field<std::uint64_t>(object, "count", "f"); }, "negative"));
  EXPECT_TRUE(test::throws_with<InputError>(
      [&] { (void)get_field<std::int64_t>(object, "real", "f"); }, "integer"));
  EXPECT_TRUE(test::throws_with<InputError>(
      [&] { (void)get_field<std::string>(object, "count", "f"); }, "key \"count\""));
}

}  // namespace
}  // namespace shoal::io
