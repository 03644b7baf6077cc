// Content servers: chassis whose methods take a parameter `shards`. The mesh has them open the shards of indices.
//
//   auto content = std::make_shared<katamari::Content<Lines>>([](const std::string& path, const std::string& name) {
//     auto lines = std::make_unique<Lines>(path);
//     const std::int64_t count = lines->count();
//     return katamari::OpenedShard<Lines>{std::move(lines), count};
//   });
//   options.content = content;
//
// The destructor of a shard closes its files. The library runs it when no call uses the shard any more. Shards are
// opened and closed in threads of the library, while handlers run.

#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "chassis.h"

namespace katamari {

/** What a function that opens shards returns. */
template <class Shard>
struct OpenedShard {
  /** What the handlers get. */
  std::unique_ptr<Shard> shard;
  /** Number of documents or records. */
  std::int64_t entries = 0;
  /** Facts for people: format, codec, analyzer. */
  std::map<std::string, std::string> more = {};
};

/** Throw it while a shard is opened, when its files are not as they should be. The mesh fetches them again. */
class DamagedShard : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/** A call asks for a shard that is not open here: the caller gets the code no_pool, and the mesh asks another copy. */
class ShardNotOpen : public Error {
 public:
  explicit ShardNotOpen(const std::string& message) : Error(ErrorCode::noPool, message) {}
};

/** The shards that are open, of any type. Thread-safe. */
class ContentBase {
 public:
  ContentBase(const ContentBase&) = delete;
  ContentBase& operator=(const ContentBase&) = delete;
  virtual ~ContentBase() = default;

  struct Facts {
    std::int64_t entries = 0;
    std::map<std::string, std::string> more;
  };

  /** Names of the open shards, in order. */
  std::vector<std::string> names() const;

  /**
   * For the mesh: opens a shard, or returns the facts that its first `open` returned. Waits while it is being opened or
   * closed. Throws what the function that opens shards throws, and std::invalid_argument if the shard is open from
   * another path.
   */
  Facts open(const std::string& name, const std::string& path);
  /** For the mesh: waits for the calls that use a shard, then closes it. Does nothing for an unknown shard. */
  void close(const std::string& name);

 protected:
  ContentBase() = default;

  struct Opened {
    std::shared_ptr<void> shard;
    Facts facts;
  };
  virtual Opened openFiles(const std::string& path, const std::string& name) = 0;

  /** Returns the shards, all that are open for no names, and counts them as used until `leave`. Throws ShardNotOpen. */
  std::map<std::string, void*> enter(const std::vector<std::string>& names);
  template <class Shards>
  void leave(const Shards& shards) noexcept {
    for (const auto& shard : shards) leaveOne(shard.first);
  }

 private:
  /** A shard from the begin of `open` until it is closed. */
  struct Entry {
    std::string path;
    Opened opened = {};
    bool isOpen = false;
    /** Calls that use it. */
    int uses = 0;
  };

  void leaveOne(const std::string& name) noexcept;
  std::vector<std::string> namesLocked() const;
  Entry& find(const std::string& name);
  /** Waits until the shard is open or unknown. Returns null for an unknown one. */
  Entry* settled(std::unique_lock<std::mutex>& lock, const std::string& name);
  void forget(const std::string& name);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Entry> entries_;
};

template <class Shard>
class Content : public ContentBase {
 public:
  /**
   * Opens the files of a shard. Gets the path of a file or folder, read-only, and the name of the shard,
   * `index@version/shard`. The what() of an exception tells the operator why the shard is refused; DamagedShard also
   * asks for the files anew.
   */
  using Open = std::function<OpenedShard<Shard>(const std::string& path, const std::string& name)>;

  explicit Content(Open open) : open_(std::move(open)) {}

  /** Open shards by name. They stay open for as long as this object lives. */
  class Used {
   public:
    Used(Content& content, std::map<std::string, Shard*> shards) : content_(content), shards_(std::move(shards)) {}
    Used(const Used&) = delete;
    Used& operator=(const Used&) = delete;
    ~Used() { content_.leave(shards_); }

    auto begin() const { return shards_.begin(); }
    auto end() const { return shards_.end(); }
    std::size_t size() const { return shards_.size(); }

   private:
    Content& content_;
    const std::map<std::string, Shard*> shards_;
  };

  /**
   * Returns the shards of a call. None named means all that are open: C++ sends an absent list as an empty one.
   * Throws ShardNotOpen if one of them is not open; let it pass.
   */
  Used use(const std::vector<std::string>& names = {}) {
    const auto entered = enter(names);
    std::map<std::string, Shard*> shards;
    try {
      for (const auto& [name, shard] : entered) shards.emplace(name, static_cast<Shard*>(shard));
    } catch (...) {
      leave(entered);
      throw;
    }
    return Used(*this, std::move(shards));
  }

 private:
  Opened openFiles(const std::string& path, const std::string& name) override {
    auto opened = open_(path, name);
    return {std::shared_ptr<Shard>(std::move(opened.shard)), {opened.entries, std::move(opened.more)}};
  }

  const Open open_;
};

}  // namespace katamari
