// A kernel that must keep an array in local memory: what tests/emulated/kernel_resources.py is there to find.
__global__ void spilling_kernel(const float* from, const int* where, float* to) {
  float values[64];
  for (int i = 0; i < 64; ++i) values[where[i] % 64] = from[i];
  for (int i = 0; i < 64; ++i) to[i] = values[where[i + 64] % 64];
}
