// The samplers that train.sampler chooses from, one row each. Whoever includes this file defines
// VIXEN_SAMPLER(enumerator, name): `name` is the value in settings, and make_NAME in src/sampling/NAME.cpp makes the
// sampler (sampling/sampler.hpp).
VIXEN_SAMPLER(kClustered, clustered)
VIXEN_SAMPLER(kShuffled, shuffled)
