#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "shoal/device/device.hpp"
#include "shoal/device/exec.hpp"

namespace shoal::cuda {

struct ContextOwner;  // stream, handles and workspace, released together
[[nodiscard]] std::shared_ptr<ContextOwner> make_context(CudaContext& context);
/// A stream on the device of `beside`, without BLAS.
[[nodiscard]] std::shared_ptr<ContextOwner> make_stream(CudaContext& context,
                                                        const CudaContext& beside);
void synchronize(const CudaContext& context);
void copy_async(const CudaContext& context, void* target, const void* source, std::int64_t bytes);
void zero_async(const CudaContext& context, void* target, std::int64_t bytes);
struct EventOwner;
[[nodiscard]] std::shared_ptr<EventOwner> make_event();
void record(const EventOwner& owner, const CudaContext& context);
void wait(const EventOwner& owner);  ///< returns at once when nothing was recorded
void hold_back(const EventOwner& owner, const CudaContext& context);
struct GraphOwner;
void begin_capture(const CudaContext& context);
void abandon_capture(const CudaContext& context) noexcept;
[[nodiscard]] std::shared_ptr<GraphOwner> end_capture(const CudaContext& context);
void launch(const GraphOwner& owner, const CudaContext& context);
[[nodiscard]] int device_count();
[[nodiscard]] DeviceInfo info();
void select(int index);

}  // namespace shoal::cuda
