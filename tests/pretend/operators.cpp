// Operators of the pretend device: each runs on the CPU over the same memory, as work of the current stream.
#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/NativeFunctions.h>
#include <fmt/format.h>
#include <torch/library.h>

#include <cstring>
#include <set>
#include <string>
#include <string_view>

#include "base/check.hpp"
#include "pretend/ledger.hpp"
#include "pretend/memory.hpp"
#include "pretend/pretend_device.hpp"
#include "pretend/streams.hpp"
#include "pretend/work_graphs.hpp"

namespace vixen::pretend {
namespace {

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

// Operators for which CUDA waits, whatever their arguments: the size of the result depends on values, or it is a value
// of the host.
const std::set<std::string_view>& waiting_operators() {
  static const std::set<std::string_view> all = {
      "aten::nonzero",     "aten::masked_select",          "aten::_unique", "aten::_unique2", "aten::unique_dim",
      "aten::bincount",    "aten::unique_consecutive",     "aten::histc",   "aten::equal",    "aten::is_nonzero",
      "aten::multinomial", "aten::unique_dim_consecutive",
  };
  return all;
}

// Operators that take indices of the host beside tensors of the device; CUDA copies them up.
bool takes_host_indices(std::string_view name) {
  return name == "aten::index" || name == "aten::index_put_" || name == "aten::_index_put_impl_" ||
         name == "aten::index_put";
}

bool on_device(const at::Tensor& tensor) {
  return tensor.defined() && tensor.is_privateuseone();
}

std::vector<Access> accesses_of(at::TensorList tensors) {
  std::vector<Access> all;
  for (const at::Tensor& tensor : tensors)
    if (on_device(tensor))
      if (const auto access = access_of(tensor)) all.push_back(*access);
  return all;
}

at::Tensor make_strided(at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType dtype) {
  const at::Tensor made = at::detail::empty_strided_generic(sizes, strides, &device_memory(), kKeys, dtype);
  keep_in_recording(made);
  return made;
}

// One call of an operator: its tensors as the CPU sees them, and what it does with the device's.
class Call {
 public:
  Call(const c10::OperatorHandle& op, torch::jit::Stack* stack)
      : op_(&op), schema_(&op.schema()), stack_(stack), first_(stack->size() - schema_->arguments().size()) {}

  void run() {
    {
      const std::lock_guard lock(device_lock());
      ++ledger().operators;
    }
    for (size_t i = 0; i < schema_->arguments().size(); ++i) take(i);
    count_moved(reads_);
    count_moved(writes_);
    check_devices();
    launch_on_current(schema_->name(), reads_, writes_);
    const auto arguments = c10::ArrayRef<c10::IValue>(stack_->data() + first_, schema_->arguments().size()).vec();
    if (waits()) wait_for_stream(current_stream(), schema_->name());
    for (size_t i = 0; i < host_.size(); ++i) (*stack_)[first_ + i] = host_[i];
    op_->callBoxed(stack_);
    give_results(arguments);
    if (is_recording()) record(arguments);
  }

 private:
  // The same call once more, over the same memory.
  void record(const std::vector<c10::IValue>& arguments) const {
    std::vector<at::Tensor> alive, made;  // made: results that are no arguments
    const auto note = [&](const c10::IValue& value, std::vector<at::Tensor>& all) {
      if (value.isTensor() && on_device(value.toTensor())) all.push_back(value.toTensor());
      if (value.isTensorList())
        for (const at::Tensor& tensor : value.toTensorVector()) all.push_back(tensor);
    };
    for (const c10::IValue& argument : arguments) note(argument, alive);
    const auto& returns = schema_->returns();
    const size_t begin = stack_->size() - returns.size();
    for (size_t r = 0; r < returns.size(); ++r)
      if (returns[r].alias_info() == nullptr) note((*stack_)[begin + r], made);
    alive.insert(alive.end(), made.begin(), made.end());
    const auto again = [op = *op_, host = host_, made, name = schema_->name(), reads = reads_, writes = writes_] {
      launch_on_current(name, reads, writes);
      torch::jit::Stack stack(host.begin(), host.end());
      op.callBoxed(&stack);
      std::vector<at::Tensor> values;
      for (size_t r = 0; r < op.schema().returns().size(); ++r) {
        if (op.schema().returns()[r].alias_info() != nullptr) continue;
        const c10::IValue& value = stack[r];
        if (value.isTensor()) values.push_back(value.toTensor());
        if (value.isTensorList())
          for (const at::Tensor& tensor : value.toTensorVector()) values.push_back(tensor);
      }
      VIXEN_CHECK(values.size() == made.size(), "{}: {} results, {} in the recording", name, values.size(),
                  made.size());
      for (size_t i = 0; i < made.size(); ++i) {
        VIXEN_CHECK(values[i].sizes() == made[i].sizes(), "{}: a result's size is not the recording's", name);
        if (made[i].numel() > 0) host_view(made[i]).copy_(values[i]);
      }
    };
    record_work(again, std::move(alive));
  }

  // Argument i as the CPU gets it, and what it means for the streams.
  void take(size_t i) {
    const c10::IValue& value = (*stack_)[first_ + i];
    const auto& argument = schema_->arguments()[i];
    const bool written = argument.alias_info() != nullptr && argument.alias_info()->isWrite();
    c10::IValue seen = value;
    if (value.isTensor()) {
      seen = seen_by_cpu(value.toTensor(), written);
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> all;
      for (const at::Tensor& tensor : value.toTensorVector()) all.push_back(seen_by_cpu(tensor, written));
      seen = all;
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> all;
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector()) {
        if (tensor && tensor->defined())
          all.push_back(seen_by_cpu(*tensor, written));
        else
          all.push_back(tensor);
      }
      seen = all;
    } else if (value.isDevice()) {
      seen = c10::Device(c10::kCPU);
    }
    host_.push_back(std::move(seen));
  }

  bool is_product() const {
    static const std::set<std::string_view> products = {"aten::mm",  "aten::addmm",   "aten::addmm_",
                                                        "aten::bmm", "aten::baddbmm", "aten::baddbmm_"};
    return products.count(schema_->name()) > 0;
  }

  void count_moved(const std::vector<Access>& accesses) const {
    const std::lock_guard lock(device_lock());
    int64_t& bytes = is_product() ? ledger().product_bytes : ledger().moved_bytes;
    for (const Access& access : accesses) bytes += access.bytes;
  }

  at::Tensor seen_by_cpu(const at::Tensor& tensor, bool written) {
    if (!tensor.defined()) return tensor;
    if (!on_device(tensor)) {
      if (tensor.dim() > 0) host_operand_ = true;
      return tensor;
    }
    if (const auto access = access_of(tensor)) (written ? writes_ : reads_).push_back(*access);
    // An empty result may be resized, which another's memory cannot be.
    return written && tensor.numel() == 0 ? at::empty(tensor.sizes(), at::dtype(tensor.scalar_type()))
                                          : host_view(tensor);
  }

  // As on a GPU: numbers may come from the host, tensors not.
  void check_devices() const {
    if (!host_operand_) return;
    TORCH_CHECK(takes_host_indices(schema_->name()), "Expected all tensors to be on the same device, but ",
                schema_->name(), " found at least two devices, ", device().str(), " and cpu!");
    if (schema_->name() == "aten::index") return;  // they have come up already, and were counted
    const std::lock_guard lock(device_lock());
    ++ledger().to_device_pageable;
    add_fault_in_step(FaultKind::kPageableCopy, schema_->name() + " with indices of the host");
  }

  bool waits() const {
    const std::string& name = schema_->name();
    if (waiting_operators().count(name) > 0) return true;
    const auto argument = [&](const char* of) {
      return host_[static_cast<size_t>(*schema_->argumentIndexWithName(of))];
    };
    if (name == "aten::repeat_interleave") return argument("output_size").isNone();
    if (name == "aten::segment_reduce") return !argument("unsafe").toBool();
    if (name == "aten::_index_put_impl_") return has_mask_among(argument("indices"));
    return false;
  }

  static bool has_mask_among(const c10::IValue& indices) {
    for (const std::optional<at::Tensor>& index : indices.toOptionalTensorVector())
      if (index && index->defined() && (index->scalar_type() == at::kBool || index->scalar_type() == at::kByte))
        return true;
    return false;
  }

  // What the CPU returned, as tensors of the device; results that are arguments are those arguments.
  void give_results(const std::vector<c10::IValue>& arguments) {
    const auto& returns = schema_->returns();
    const size_t begin = stack_->size() - returns.size();
    for (size_t i = 0; i < arguments.size(); ++i) {
      const auto* alias = schema_->arguments()[i].alias_info();
      if (alias != nullptr && alias->isWrite() && arguments[i].isTensor()) write_back(arguments[i], host_[i]);
    }
    for (size_t r = 0; r < returns.size(); ++r) {
      c10::IValue& result = (*stack_)[begin + r];
      const auto* alias = returns[r].alias_info();
      if (alias != nullptr && alias->isWrite()) {
        result = argument_of(*alias, arguments);
      } else if (result.isTensor()) {
        result = brought(result.toTensor());
      } else if (result.isTensorList()) {
        c10::List<at::Tensor> all;
        for (const at::Tensor& tensor : result.toTensorVector()) all.push_back(brought(tensor));
        result = all;
      }
    }
  }

  static void write_back(const c10::IValue& argument, const c10::IValue& host) {
    const at::Tensor& target = argument.toTensor();
    const at::Tensor& values = host.toTensor();
    if (!on_device(target) || (target.numel() > 0 && target.sizes() == values.sizes())) return;
    target.resize_(values.sizes());
    if (values.numel() > 0) host_view(target).copy_(values);
  }

  c10::IValue argument_of(const c10::AliasInfo& alias, const std::vector<c10::IValue>& arguments) const {
    for (size_t i = 0; i < arguments.size(); ++i) {
      const auto* own = schema_->arguments()[i].alias_info();
      if (own != nullptr && own->beforeSets() == alias.beforeSets()) return arguments[i];
    }
    VIXEN_CHECK(false, "{}: a result that is written is no argument", schema_->name());
    return {};
  }

  at::Tensor brought(const at::Tensor& values) const {
    if (!values.defined()) return values;
    VIXEN_CHECK(values.numel() == 0 || !is_host_address(values.const_data_ptr()),
                "the pretend device has no form of {}, which returns a view", schema_->name());
    const at::Tensor result = make_strided(values.sizes(), values.strides(), values.scalar_type());
    if (values.numel() == 0) return result;
    host_view(result).copy_(values);
    count_moved(accesses_of({result}));
    return result;
  }

  const c10::OperatorHandle* op_;
  const c10::FunctionSchema* schema_;
  torch::jit::Stack* stack_;
  size_t first_;
  std::vector<c10::IValue> host_;
  std::vector<Access> reads_, writes_;
  bool host_operand_ = false;
};

void on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  Call(op, stack).run();
}

at::Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  const at::Tensor made =
      at::detail::empty_generic(sizes, &device_memory(), kKeys, c10::dtype_or_default(dtype), format);
  keep_in_recording(made);
  return made;
}

at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return make_strided(sizes, strides, c10::dtype_or_default(dtype));
}

const at::Tensor& resize(const at::Tensor& tensor, at::IntArrayRef sizes, std::optional<at::MemoryFormat>) {
  auto* storage = tensor.storage().unsafeGetStorageImpl();
  int64_t elements = 1;
  for (const int64_t size : sizes) elements *= size;
  const auto needed = static_cast<size_t>(tensor.storage_offset() + elements) * tensor.element_size();
  if (needed > storage->nbytes()) {
    c10::DataPtr grown = device_memory().allocate(needed);
    if (storage->nbytes() > 0)
      std::memcpy(host_address(grown.get()), host_address(storage->data_ptr().get()), storage->nbytes());
    storage->set_data_ptr_noswap(std::move(grown));
    storage->set_nbytes(needed);
  }
  tensor.unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
  return tensor;
}

void copy_within(const at::Tensor& from, const at::Tensor& to) {
  launch("aten::copy_", {from}, {to});
  {
    const std::lock_guard lock(device_lock());
    for (const auto& access : accesses_of({from, to})) ledger().moved_bytes += access.bytes;
  }
  host_view(to).copy_(host_view(from));
  record_work(
      [from, to] {
        launch("aten::copy_", {from}, {to});
        host_view(to).copy_(host_view(from));
      },
      {});
}

void copy_up(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  refuse_in_recording("a copy to the device");
  // Another dtype or order is made on the host first, in pageable memory.
  const bool pinned =
      from.is_pinned() && from.scalar_type() == to.scalar_type() && from.is_contiguous() && from.sizes() == to.sizes();
  {
    const std::lock_guard lock(device_lock());
    ++(pinned ? ledger().to_device_pinned : ledger().to_device_pageable);
  }
  if (!pinned) add_fault_in_step(FaultKind::kPageableCopy, "copy to the device");
  const at::Tensor target = host_view(to);
  const Stamp now = launch_on_current("copy to the device", {}, accesses_of({to}));
  if (pinned) deliver_to_current(from.const_data_ptr(), from.nbytes());
  target.copy_(from);
  if (pinned) watch_copy_up(from.const_data_ptr(), from.nbytes(), now);
  if (!non_blocking && pinned) wait_for_stream(current_stream(), "copy to the device that blocks");
}

void copy_down(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  refuse_in_recording("a copy to the host");
  const bool pinned = to.is_pinned() && from.scalar_type() == to.scalar_type() && to.is_contiguous();
  {
    const std::lock_guard lock(device_lock());
    ++(pinned ? ledger().to_host_pinned : ledger().to_host_pageable);
  }
  if (!pinned) add_fault_in_step(FaultKind::kPageableCopy, "copy to the host");
  const Stamp now = launch_on_current("copy to the host", accesses_of({from}), {});
  if (pinned && non_blocking) {
    const at::Tensor values = host_view(from).contiguous();
    return copy_down_later(to.mutable_data_ptr(), values.const_data_ptr(), values.nbytes(), now);
  }
  wait_for_stream(current_stream(), "copy to the host that blocks");
  to.copy_(host_view(from));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  if (to.numel() == 0) return to;
  const at::Tensor values = from.sizes() == to.sizes() ? from : from.expand_as(to);
  if (on_device(from) && on_device(to))
    copy_within(values, to);
  else if (on_device(to))
    copy_up(values, to, non_blocking);
  else
    copy_down(values, to, non_blocking);
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (to.sizes() != from.sizes()) to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Scalar item(const at::Tensor& tensor) {
  refuse_in_recording("aten::item");
  launch("aten::item", {tensor}, {});
  wait_for_stream(current_stream(), "aten::item");
  return host_view(tensor).item();
}

void record_stream(at::Tensor& tensor, at::Stream stream) {
  record_on_stream(tensor.storage().data_ptr(), static_cast<int>(stream.id()));
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>());
}
TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("resize_", resize);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", item);
  m.impl("record_stream", record_stream);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("view", at::native::view);
  m.impl("view.dtype", at::native::view_dtype);
  m.impl("_reshape_alias", at::native::_reshape_alias);
}

}  // namespace

at::Device device() {
  static const bool registered = [] {
    c10::register_privateuse1_backend("pretend");
    register_memory();
    return true;
  }();
  return {at::kPrivateUse1, static_cast<c10::DeviceIndex>(registered ? 0 : -1)};
}

at::Tensor host_view(const at::Tensor& tensor) {
  if (!on_device(tensor)) return tensor;
  void* address = host_address(tensor.const_data_ptr());
  if (address == nullptr) return at::empty(tensor.sizes(), at::dtype(tensor.scalar_type()));  // no elements
  return at::from_blob(address, tensor.sizes(), tensor.strides(), at::dtype(tensor.scalar_type()));
}

void launch(const char* name, at::TensorList reads, at::TensorList writes) {
  launch_on_current(name, accesses_of(reads), accesses_of(writes));
}

}  // namespace vixen::pretend
