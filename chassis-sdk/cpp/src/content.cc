// See content.h: which shards are open, and which calls use them.

#include "katamari/content.h"

namespace katamari {

namespace {

/** Open shards that an error names. */
constexpr std::size_t shardsShownMax = 20;

}  // namespace

std::vector<std::string> ContentBase::names() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return namesLocked();
}

ContentBase::Facts ContentBase::open(const std::string& name, const std::string& path) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (const auto* const known = settled(lock, name)) {
    if (known->path == path) return known->opened.facts;
    throw std::invalid_argument(name + " is open from " + known->path + "; close it first");
  }
  auto& entry = entries_[name];
  entry.path = path;
  lock.unlock();
  try {
    auto opened = openFiles(path, name);
    if (opened.shard == nullptr) throw std::logic_error("the function that opens shards returned no shard");
    auto facts = opened.facts;
    if (facts.entries < 0)
      throw std::logic_error("the function that opens shards returned " + std::to_string(facts.entries) + " entries");
    lock.lock();
    // Nothing else changes an entry that is not open.
    entry.opened = std::move(opened);
    entry.isOpen = true;
    changed_.notify_all();
    return facts;
  } catch (...) {
    forget(name);
    throw;
  }
}

void ContentBase::close(const std::string& name) {
  std::unique_lock<std::mutex> lock(mutex_);
  auto* const entry = settled(lock, name);
  if (entry == nullptr) return;
  entry->isOpen = false;
  changed_.wait(lock, [entry] { return entry->uses == 0; });
  auto shard = std::move(entry->opened.shard);
  lock.unlock();
  // The destructor closes the files.
  shard.reset();
  forget(name);
}

std::map<std::string, void*> ContentBase::enter(const std::vector<std::string>& names) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::map<std::string, void*> found;
  for (const auto& name : names.empty() ? namesLocked() : names) found.emplace(name, find(name).opened.shard.get());
  for (const auto& shard : found) entries_.find(shard.first)->second.uses++;
  return found;
}

void ContentBase::leaveOne(const std::string& name) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  entries_.find(name)->second.uses--;
  changed_.notify_all();
}

std::vector<std::string> ContentBase::namesLocked() const {
  std::vector<std::string> found;
  for (const auto& [name, entry] : entries_)
    if (entry.isOpen) found.push_back(name);
  return found;
}

ContentBase::Entry& ContentBase::find(const std::string& name) {
  const auto found = entries_.find(name);
  if (found != entries_.end() && found->second.isOpen) return found->second;
  const auto open = namesLocked();
  std::string shown;
  for (std::size_t i = 0; i < open.size() && i < shardsShownMax; i++) shown += (i == 0 ? "" : ", ") + open[i];
  if (open.size() > shardsShownMax) shown += " and " + std::to_string(open.size() - shardsShownMax) + " more";
  throw ShardNotOpen("Shard " + name + " is not open here; open are " + (open.empty() ? "none" : shown));
}

ContentBase::Entry* ContentBase::settled(std::unique_lock<std::mutex>& lock, const std::string& name) {
  auto found = entries_.end();
  changed_.wait(lock, [&] {
    found = entries_.find(name);
    return found == entries_.end() || found->second.isOpen;
  });
  return found == entries_.end() ? nullptr : &found->second;
}

void ContentBase::forget(const std::string& name) {
  const std::lock_guard<std::mutex> lock(mutex_);
  entries_.erase(name);
  changed_.notify_all();
}

}  // namespace katamari
