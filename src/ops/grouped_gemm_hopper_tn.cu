#include "ops/hopper/grouped_launch.cuh"

namespace shoal::ops::cuda {

template void grouped_wgmma<GroupedForm::tn>(const Exec&, const GroupedCall&, const GroupedGemm&);

}  // namespace shoal::ops::cuda
