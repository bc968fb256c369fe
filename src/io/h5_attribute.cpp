#include <algorithm>
#include <utility>
#include <vector>

#include "io/h5_impl.hpp"

namespace shoal::io {
namespace {

/// A text attribute longer than this is not one of ours.
constexpr std::size_t kMaxText = std::size_t{1} << 26;

[[nodiscard]] H5TypeId text_type() {
  H5TypeId type{check_h5(H5Tcopy(H5T_C_S1))};
  check_h5(H5Tset_size(type.get(), H5T_VARIABLE));
  check_h5(H5Tset_cset(type.get(), H5T_CSET_UTF8));
  return type;
}

void write_attribute(hid_t object, const std::string& name, hid_t type, const void* value) {
  if (check_h5(H5Aexists(object, name.c_str())) > 0) check_h5(H5Adelete(object, name.c_str()));
  const H5SpaceId scalar{check_h5(H5Screate(H5S_SCALAR))};
  const H5AttributeId attribute{
      check_h5(H5Acreate2(object, name.c_str(), type, scalar.get(), H5P_DEFAULT, H5P_DEFAULT))};
  check_h5(H5Awrite(attribute.get(), type, value));
}

/// An attribute open for reading: exactly one element of the wanted class.
struct OpenAttribute {
  H5ObjectId object;
  H5AttributeId id;
  std::string where;
};

[[nodiscard]] OpenAttribute open_attribute(hid_t file, const std::string& file_name,
                                           const std::pair<std::string, std::string>& name) {
  OpenAttribute a;
  a.where = file_name + ": attribute " + name.second + " of " + name.first;
  require(link_path_exists(file, file_name, name.first), a.where + " is missing");
  a.object = H5ObjectId{require_h5(H5Oopen(file, name.first.c_str(), H5P_DEFAULT), a.where)};
  require(H5Aexists(a.object.get(), name.second.c_str()) > 0, a.where + " is missing");
  a.id = H5AttributeId{H5Aopen(a.object.get(), name.second.c_str(), H5P_DEFAULT)};
  require_h5(a.id.get(), a.where);
  const H5SpaceId space{require_h5(H5Aget_space(a.id.get()), a.where)};
  require(H5Sget_simple_extent_npoints(space.get()) == 1, a.where + " must hold one value");
  return a;
}

template <class T>
[[nodiscard]] T read_number(const OpenAttribute& a, H5T_class_t wanted, hid_t type) {
  const H5TypeId stored{require_h5(H5Aget_type(a.id.get()), a.where)};
  require(H5Tget_class(stored.get()) == wanted, a.where + " has another type than expected");
  T value{};
  require_h5(H5Aread(a.id.get(), type, &value), a.where);
  return value;
}

}  // namespace

void write_string_attribute(hid_t object, const std::string& name, const std::string& value) {
  const H5TypeId type = text_type();
  const char* text = value.c_str();
  write_attribute(object, name, type.get(), &text);
}

std::string read_string_attribute(hid_t attribute, const std::string& where) {
  const H5TypeId stored{require_h5(H5Aget_type(attribute), where)};
  require(H5Tget_class(stored.get()) == H5T_STRING, where + " must be text");
  if (H5Tis_variable_str(stored.get()) > 0) {
    const H5TypeId type = text_type();
    check_h5(H5Tset_cset(type.get(), H5Tget_cset(stored.get())));
    char* text = nullptr;
    require_h5(H5Aread(attribute, type.get(), &text), where);
    std::string copy{text == nullptr ? "" : text};
    H5free_memory(text);
    return copy;
  }
  const std::size_t size = H5Tget_size(stored.get());
  require(size > 0 && size <= kMaxText, where + " has an impossible length");
  std::string text(size, '\0');
  require_h5(H5Aread(attribute, stored.get(), text.data()), where);
  text.resize(std::min(text.find('\0'), size));
  return text;
}

void H5File::set_attribute(const std::string& object, const std::string& name, std::int64_t value) {
  const auto lock = h5_lock();
  const H5ObjectId id{check_h5(H5Oopen(impl_->id.get(), object.c_str(), H5P_DEFAULT))};
  write_attribute(id.get(), name, H5T_NATIVE_INT64, &value);
}

void H5File::set_attribute(const std::string& object, const std::string& name, double value) {
  const auto lock = h5_lock();
  const H5ObjectId id{check_h5(H5Oopen(impl_->id.get(), object.c_str(), H5P_DEFAULT))};
  write_attribute(id.get(), name, H5T_NATIVE_DOUBLE, &value);
}

void H5File::set_attribute(const std::string& object, const std::string& name,
                           const std::string& value) {
  const auto lock = h5_lock();
  const H5ObjectId id{check_h5(H5Oopen(impl_->id.get(), object.c_str(), H5P_DEFAULT))};
  write_string_attribute(id.get(), name, value);
}

bool H5File::has_attribute(const std::string& object, const std::string& name) const {
  const auto lock = h5_lock();
  return has(object) &&
         H5Aexists_by_name(impl_->id.get(), object.c_str(), name.c_str(), H5P_DEFAULT) > 0;
}

std::int64_t H5File::int_attribute(const std::string& object, const std::string& name) const {
  const auto lock = h5_lock();
  const auto attribute = open_attribute(impl_->id.get(), impl_->path.string(), {object, name});
  return read_number<std::int64_t>(attribute, H5T_INTEGER, H5T_NATIVE_INT64);
}

double H5File::double_attribute(const std::string& object, const std::string& name) const {
  const auto lock = h5_lock();
  const auto attribute = open_attribute(impl_->id.get(), impl_->path.string(), {object, name});
  return read_number<double>(attribute, H5T_FLOAT, H5T_NATIVE_DOUBLE);
}

std::string H5File::string_attribute(const std::string& object, const std::string& name) const {
  const auto lock = h5_lock();
  const auto attribute = open_attribute(impl_->id.get(), impl_->path.string(), {object, name});
  return read_string_attribute(attribute.id.get(), attribute.where);
}

}  // namespace shoal::io
