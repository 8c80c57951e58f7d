// A CUDA driver library without a driver, for tests: says that each GPU of the runtime's double has a context. LibTorch
// looks that up before it works on a GPU, and opens with it all functions below, which do nothing.
//
// It has the driver's name, libcuda.so.1: what is loaded under that name is not looked for.
namespace {
constexpr int kSuccess = 0, kNotSupported = 801;  // CUresult
}

#define VIXEN_NOT_HERE(name) \
  int name(...) {            \
    return kNotSupported;    \
  }

extern "C" {

int cuDevicePrimaryCtxGetState(int /*device*/, unsigned* flags, int* active) {
  *flags = 0;
  *active = 1;
  return kSuccess;
}

VIXEN_NOT_HERE(cuCtxGetCurrent)
VIXEN_NOT_HERE(cuCtxSetCurrent)
VIXEN_NOT_HERE(cuDeviceGet)
VIXEN_NOT_HERE(cuDeviceGetAttribute)
VIXEN_NOT_HERE(cuDevicePrimaryCtxRetain)
VIXEN_NOT_HERE(cuFuncGetAttribute)
VIXEN_NOT_HERE(cuFuncSetAttribute)
VIXEN_NOT_HERE(cuFuncSetCacheConfig)
VIXEN_NOT_HERE(cuGetErrorString)
VIXEN_NOT_HERE(cuLaunchCooperativeKernel)
VIXEN_NOT_HERE(cuLaunchKernel)
VIXEN_NOT_HERE(cuLinkAddData_v2)
VIXEN_NOT_HERE(cuLinkComplete)
VIXEN_NOT_HERE(cuLinkCreate_v2)
VIXEN_NOT_HERE(cuModuleGetFunction)
VIXEN_NOT_HERE(cuModuleLoad)
VIXEN_NOT_HERE(cuModuleLoadData)
VIXEN_NOT_HERE(cuModuleLoadDataEx)
VIXEN_NOT_HERE(cuModuleUnload)
VIXEN_NOT_HERE(cuOccupancyMaxActiveBlocksPerMultiprocessor)
VIXEN_NOT_HERE(cuPointerGetAttribute)
VIXEN_NOT_HERE(cuTensorMapEncodeTiled)

}  // extern "C"
