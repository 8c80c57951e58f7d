#include "device/device_timer.hpp"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <utility>

namespace vixen {

c10::Event DeviceTimer::mark() const {
  c10::Event event(device_.type(), c10::EventFlag::BACKEND_DEFAULT);  // the flag of events that keep the time
  event.record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
  return event;
}

void DeviceTimer::start() {
  lap_.next();
  if (!device_.is_cpu()) begun_ = mark();
}

void DeviceTimer::stop() {
  host_seconds_ += lap_.next();
  if (!device_.is_cpu() && begun_) pieces_.push_back({std::move(*begun_), mark()});
  begun_.reset();
}

double DeviceTimer::seconds() const {
  if (device_.is_cpu()) return host_seconds_;
  double milliseconds = 0;
  for (const Piece& piece : pieces_) milliseconds += piece.begin.elapsedTime(piece.end);
  return milliseconds / 1e3;
}

}  // namespace vixen
