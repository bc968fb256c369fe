#include "ops/grouped_gemm_mma.cuh"

namespace shoal::ops::cuda {

template void grouped_mma<GroupedForm::nn>(const Exec&, const GroupedCall&, const GroupedGemm&);

}  // namespace shoal::ops::cuda
