#include <gtest/gtest.h>
#include <hdf5.h>
#include <signal.h>
#include <sys/resource.h>

#include <filesystem>

#include "shoal/base/error.hpp"
#include "shoal/base/philox.hpp"
#include "shoal/io/atomic_file.hpp"
#include "shoal/io/h5_file.hpp"
#include "support/temp_folder.hpp"
#include "support/throws.hpp"

// Files that our writer would never make, made with the library itself.
namespace shoal::io {
namespace {

/// A file with one object made by `body(file)`, then closed.
template <class Body>
void make(const std::filesystem::path& path, Body body) {
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  body(file);
  H5Fclose(file);
}

void make_dataset(hid_t file, const char* name, hid_t type, std::vector<hsize_t> dims,
                  hid_t properties = H5P_DEFAULT) {
  const hid_t space = H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr);
  H5Dclose(H5Dcreate2(file, name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT));
  H5Sclose(space);
}

[[nodiscard]] ::testing::AssertionResult refused(const std::filesystem::path& path,
                                                 const std::string& dataset,
                                                 const std::string& why) {
  return test::throws_with<InputError>([&] { (void)H5File::open(path).dataset(dataset); }, why);
}

TEST(HostileH5, LinksOutOfTheFileAreNotFollowed) {
  const test::TempFolder folder;
  make(folder / "x.h5", [](hid_t file) {
    H5Lcreate_external("/etc/passwd", "/", file, "outside", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/elsewhere", file, "soft", H5P_DEFAULT, H5P_DEFAULT);
  });
  EXPECT_TRUE(refused(folder / "x.h5", "/outside/d", "link"));
  EXPECT_TRUE(refused(folder / "x.h5", "/soft", "link"));
}

TEST(HostileH5, ExternalStorageIsRefused) {
  const test::TempFolder folder;
  make(folder / "x.h5", [](hid_t file) {
    const hid_t p = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(p, "/etc/passwd", 0, 64);
    make_dataset(file, "d", H5T_STD_U8LE, {64}, p);
    H5Pclose(p);
  });
  EXPECT_TRUE(refused(folder / "x.h5", "/d", "another file"));
}

TEST(HostileH5, VirtualSourcesOutsideTheFolderAreRefused) {
  const test::TempFolder folder;
  make(folder / "x.h5", [](hid_t file) {
    const hid_t p = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t dim = 4;
    const hid_t space = H5Screate_simple(1, &dim, nullptr);
    H5Pset_virtual(p, space, "../other.h5", "/d", space);
    make_dataset(file, "d", H5T_STD_U8LE, {4}, p);
    H5Sclose(space);
    H5Pclose(p);
  });
  EXPECT_TRUE(refused(folder / "x.h5", "/d", "outside its own folder"));
}

TEST(HostileH5, ImpossibleSizesAndTypesAreRefused) {
  const test::TempFolder folder;
  make(folder / "x.h5", [](hid_t file) {
    const hid_t p = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t chunk = 1024;
    H5Pset_chunk(p, 1, &chunk);
    make_dataset(file, "empty_but_huge", H5T_IEEE_F32LE, {hsize_t{1} << 50}, p);
    H5Pclose(p);
    const hid_t q = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t chunks[] = {8, 8};
    H5Pset_chunk(q, 2, chunks);
    make_dataset(file, "overflow", H5T_IEEE_F32LE, {hsize_t{1} << 40, hsize_t{1} << 40}, q);
    H5Pclose(q);
    make_dataset(file, "six", H5T_IEEE_F32LE, {1, 1, 1, 1, 1, 1});
    make_dataset(file, "i16", H5T_STD_I16LE, {4});
    H5Gclose(H5Gcreate2(file, "group", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  });
  EXPECT_TRUE(refused(folder / "x.h5", "/empty_but_huge", "far more data"));
  EXPECT_TRUE(refused(folder / "x.h5", "/overflow", "impossible size"));
  EXPECT_TRUE(refused(folder / "x.h5", "/six", "6 dimensions"));
  EXPECT_TRUE(refused(folder / "x.h5", "/i16", "element type"));
  EXPECT_TRUE(refused(folder / "x.h5", "/group", "/group"));
}

/// Files of this process may grow to `bytes` while it lives; then writes fail as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_{::signal(SIGXFSZ, SIG_IGN)} {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST(FullDisk, IsNamedAndTheOldFileStays) {
  const test::TempFolder folder;
  const std::vector<float> small(10, 1.0F);
  std::vector<std::uint32_t> large(100000);
  for (std::uint32_t i = 0; i < large.size(); ++i) {
    large[i] = philox::block(1, philox::Purpose::test, i).x0;
  }
  H5File first = H5File::create(folder / "x.h5");
  first.write_values<float>("/w", small);
  first.commit();
  {
    const FileSizeLimit limit{65536};
    EXPECT_TRUE(test::throws_with<Error>(
        [&] {
          H5File next = H5File::create(folder / "x.h5");
          next.write_values<std::uint32_t>("/w", large);
          next.commit();
        },
        "x.h5.tmp"));
  }
  EXPECT_EQ(H5File::open(folder / "x.h5").dataset("/w").read_all<float>(), small);
  EXPECT_FALSE(std::filesystem::exists(folder / "x.h5.tmp"));
}

}  // namespace
}  // namespace shoal::io
