# Facts of one site; sourced by all jobs. Copy to site/NAME.sh and submit with SITE=NAME.
# Every line says why it is there; delete what your machine does not need.

# The compiler, MPI and HDF5 that the binary was built with.
# module load gcc/12 openmpi/4.1 hdf5/1.14 cuda/12.4

# The network interface that MPI and NCCL use to find each other, where the default picks a slow one.
# export OMPI_MCA_btl_tcp_if_include=ib0
# export NCCL_SOCKET_IFNAME=ib0

# How srun starts MPI ranks here; `srun --mpi=list` shows what there is.
export SRUN_MPI=${SRUN_MPI:-pmix}
