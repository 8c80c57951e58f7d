// The objectives that train.method chooses from, one row each. Whoever includes this file defines
// VIXEN_OBJECTIVE(enumerator, name): `name` is the value in settings, and make_NAME in src/objective/NAME.cpp makes the
// objective (objective/objective.hpp).
VIXEN_OBJECTIVE(kPrime, prime)
VIXEN_OBJECTIVE(kNgame, ngame)
VIXEN_OBJECTIVE(kTriplet, triplet)
