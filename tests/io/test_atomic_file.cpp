#include "shoal/io/atomic_file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "shoal/base/error.hpp"
#include "shoal/io/hash.hpp"
#include "support/temp_folder.hpp"
#include "support/throws.hpp"

namespace shoal::io {
namespace {

namespace fs = std::filesystem;

TEST(AtomicFile, KeepsTheOldFileUntilCommit) {
  const test::TempFolder folder;
  write_file_atomically(folder / "x", "old");
  {
    AtomicFile abandoned{folder / "x"};
    abandoned.write("half of the ne");
  }
  EXPECT_EQ(read_file(folder / "x", 100), "old");
  EXPECT_FALSE(fs::exists(folder / "x.tmp"));
  AtomicFile next{folder / "x"};
  next.write("new");
  EXPECT_EQ(read_file(folder / "x", 100), "old");
  next.commit();
  EXPECT_EQ(read_file(folder / "x", 100), "new");
}

TEST(AtomicFile, AFullDiskIsNamed) {
  const FileDescriptor full{::open("/dev/full", O_WRONLY)};
  if (!full) GTEST_SKIP() << "this system has no /dev/full";
  const std::string text(1000, 'x');
  EXPECT_TRUE(test::throws_with<Error>(
      [&] { write_all(full.get(), std::as_bytes(std::span{text}), "ckpt/rank-0.h5"); },
      "cannot write ckpt/rank-0.h5: No space left on device"));
}

TEST(AtomicFile, AMissingFolderIsNamed) {
  const test::TempFolder folder;
  EXPECT_TRUE(test::throws_with<Error>([&] { AtomicFile{folder / "no/x"}; }, "no/x.tmp: No such"));
}

TEST(ReadFile, LimitsTheSize) {
  const test::TempFolder folder;
  write_file_atomically(folder / "x", std::string(101, 'x'));
  EXPECT_TRUE(
      test::throws_with<InputError>([&] { (void)read_file(folder / "x", 100); }, "larger than"));
}

TEST(FolderCommit, AppearsWholeAndReplaces) {
  const test::TempFolder folder;
  const fs::path target = folder / "step-1";
  for (const std::string text : {"first", "second"}) {
    FolderCommit commit{target};
    fs::create_directories(commit.temporary() / "sub");
    write_file_atomically(commit.temporary() / "sub/x", text);
    commit.commit();
    EXPECT_EQ(read_file(target / "sub/x", 100), text);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator{folder.path()}, fs::directory_iterator{}), 1);
}

TEST(FolderCommit, LeavesNothingWhenAbandoned) {
  const test::TempFolder folder;
  const fs::path target = folder / "step-1";
  fs::create_directories(folder / "step-1.tmp/stale");
  {
    const FolderCommit commit{target};
    EXPECT_TRUE(fs::is_empty(commit.temporary()));
    write_file_atomically(commit.temporary() / "x", "lost");
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

// Values of xxhsum -H128.
TEST(Hash, AgreesWithTheReferenceTool) {
  EXPECT_EQ(hash_text(""), "99aa06d3014798d86001c324468d497f");
  const test::TempFolder folder;
  std::string text;
  for (int i = 0; i < 100000; ++i) text += std::to_string(i);
  write_file_atomically(folder / "x", text);
  Hasher hasher;
  hasher.update(std::string_view{text}.substr(0, 1234));
  hasher.update(std::string_view{text}.substr(1234));
  EXPECT_EQ(hash_file(folder / "x"), hash_text(text));
  EXPECT_EQ(hasher.digest(), hash_text(text));
}

}  // namespace
}  // namespace shoal::io
