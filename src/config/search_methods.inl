// The indexes that search.method chooses from, one row each. Whoever includes this file defines VIXEN_INDEX(enumerator,
// name, exact, help): `name` is the value in settings, and make_NAME_index in a file of src/search builds the index
// (search/index.hpp); exact: finds every label of the answer, so that no recall is measured.
VIXEN_INDEX(kExact, exact, true, "every label is compared, the same answer to the bit for any number of ranks")
VIXEN_INDEX(kFaissFlat, faiss_flat, true, "FAISS compares every label in float32")
VIXEN_INDEX(kFaissIvfPq, faiss_ivf_pq, false, "FAISS reads the codes of the nearest lists, and scores the best again")
VIXEN_INDEX(kFaissHnsw, faiss_hnsw, false, "FAISS walks a graph of neighbours")
