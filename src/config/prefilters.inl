// How the exact search finds candidates on a CPU: what search.prefilter chooses from, one row each. Whoever includes
// this file defines VIXEN_PREFILTER(enumerator, name, widest, help): `name` is the value in settings, and
// make_NAME_prefilter in a file of src/search prepares labels for it (search/prefilter.hpp), of rows of at most
// `widest` columns (0: any).
VIXEN_PREFILTER(kFloat32, fp32, 0, "products of float32")
VIXEN_PREFILTER(kBfloat16, bf16, 0, "products of bfloat16, fast where the CPU has instructions for them")
VIXEN_PREFILTER(kInt8, int8, 65536, "products of 8-bit integers, the fastest with AVX2 or AVX-512 VNNI")
