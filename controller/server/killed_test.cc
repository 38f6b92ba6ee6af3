// The real program, killed with SIGKILL while guards tell it 5,000 events a second, and started again.

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "controller/core/controller.h"
#include "controller/core/test_guard.h"
#include "controller/store/sqlite_store.h"

namespace sallyport::controller {
namespace {

using namespace testing;

constexpr const char* kPolicy = R"(apiVersion: sallyport.dev/v1alpha1
kind: EgressPolicy
metadata: {name: FUNCTION}
spec: {}
)";

constexpr const char* kGraph = R"(apiVersion: sallyport.dev/v1alpha1
kind: ApplicationGraph
metadata: {name: shop}
spec:
  functions:
  - {name: front, entry: true}
  - {name: back, after: [{function: front, through: "PUT queue.example.com/{any}"}]}
)";

class Killed : public ::testing::Test {
 protected:
  Killed() : folder_(::testing::TempDir() + "/sallyport_killed." + std::to_string(getpid())), port_(free_port()) {
    std::filesystem::remove_all(folder_);
    const auto store = open();
    auto controller = Controller::start(*store, {.say = {}});
    EXPECT_TRUE(controller);
    EXPECT_TRUE((*controller)->create_application("shop", "test"));
    for (const std::string function : {"front", "back"}) {
      std::string policy = kPolicy;
      put(**controller, DocumentKind::policy, policy.replace(policy.find("FUNCTION"), 8, function), function);
    }
    put(**controller, DocumentKind::application_graph, kGraph, "");
    token_ = (*controller)->make_token("shop", "", std::nullopt, "test")->text;
  }
  ~Killed() override {
    if (pid_ > 0) end(SIGKILL);
    std::filesystem::remove_all(folder_);
  }

  std::unique_ptr<SqliteStore> open() const {
    auto opened = SqliteStore::open(folder_);
    EXPECT_TRUE(opened) << opened.error().text;
    return std::move(*opened);
  }
  static void put(Controller& controller, DocumentKind kind, std::string text, const std::string& function) {
    Document document;
    document.application = "shop";
    document.function = function;
    document.kind = kind;
    document.text = std::move(text);
    const auto put = controller.put_document(std::move(document), 0, "test");
    ASSERT_TRUE(put && put->version > 0);
  }

  // Returns when guards can connect.
  void start() {
    const std::string program =
        std::filesystem::read_symlink("/proc/self/exe").replace_filename("sallyport-controller");
    const std::string listen = "127.0.0.1:" + std::to_string(port_);
    const std::string admin = "127.0.0.1:" + std::to_string(free_port());
    pid_ = ::fork();
    if (pid_ == 0) {
      ::execl(program.c_str(), program.c_str(), "--data", folder_.c_str(), "--listen", listen.c_str(), "--admin-listen",
              admin.c_str(), nullptr);
      ::_exit(127);
    }
    ASSERT_TRUE(eventually([&] { return listens(); }, 20s));
  }
  bool listens() const {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  int end(int signal) {
    ::kill(pid_, signal);
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return status;
  }
  std::unique_ptr<TestGuard> guard(const std::string& function, const std::string& instance) const {
    return std::make_unique<TestGuard>(port_, folder_ + "/ca.pem", function, instance, token_);
  }

  const std::string folder_;
  const std::uint16_t port_;
  std::string token_;
  pid_t pid_ = -1;
};

std::string execution(std::uint64_t number) {
  std::string out(16, 'e');
  std::memcpy(out.data(), &number, sizeof number);
  return out;
}

// Asks for one execution after the other, as fast as it is answered.
class Asker {
 public:
  Asker(TestGuard& guard, std::uint64_t first) : thread_([this, &guard, first] { run(guard, first); }) {}
  ~Asker() { stop(); }
  std::uint64_t stop() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
    return allowed_;
  }

 private:
  void run(TestGuard& guard, std::uint64_t number) {
    while (!stopping_) {
      v1alpha1::EntryAsk ask;
      ask.set_execution(execution(++number));
      const auto answer = guard.ask(std::move(ask));
      if (answer && answer->allowed()) ++allowed_;
      if (!answer) std::this_thread::sleep_for(5ms);
    }
  }
  std::atomic<bool> stopping_ = false;
  std::atomic<std::uint64_t> allowed_ = 0;
  std::thread thread_;
};

TEST_F(Killed, At5000EventsASecondLosesNothingDoublesNothingAndAllowsNothingTwice) {
  start();
  std::vector<std::unique_ptr<TestGuard>> fronts;
  for (int i = 0; i < 4; ++i) fronts.push_back(guard("front", "front-" + std::to_string(i)));
  const auto back = guard("back", "back-0");
  const auto all_connected = [&] {
    return back->connected() && std::ranges::all_of(fronts, [](const auto& front) { return front->connected(); });
  };
  ASSERT_TRUE(eventually(all_connected, 20s));

  fronts[0]->tell_execution(id_of('a'), id_of('r'), false);
  std::vector<std::unique_ptr<Reporter>> reporters;
  for (const auto& front : fronts) reporters.push_back(std::make_unique<Reporter>(front->link(), 1'250));
  std::vector<std::unique_ptr<Asker>> askers;
  for (std::uint64_t i = 0; i < 4; ++i) askers.push_back(std::make_unique<Asker>(*back, (i + 1) << 32));
  std::uint64_t flows = 0;
  const auto go_on = [&](std::chrono::milliseconds time) {
    for (const auto last = std::chrono::steady_clock::now() + time; std::chrono::steady_clock::now() < last;) {
      fronts[0]->tell_flow(id_of('a'), id_of('r'), (++flows) << 32);
      std::this_thread::sleep_for(5ms);
    }
  };
  auto back_after = std::chrono::steady_clock::duration::max();
  for (int round = 0; round < 2; ++round) {
    go_on(1'500ms);
    end(SIGKILL);
    go_on(200ms);
    start();
    const auto begun = std::chrono::steady_clock::now();
    EXPECT_TRUE(eventually(all_connected, 20s));
    back_after = std::min(back_after, std::chrono::steady_clock::now() - begun);
  }
  EXPECT_LT(back_after, 2s) << "of two times, as other tests may have the machine meanwhile";
  go_on(1'000ms);

  std::vector<std::uint64_t> reported;
  for (const auto& reporter : reporters) reported.push_back(reporter->stop());
  for (const auto& front : fronts) {
    ASSERT_TRUE(front->link().flush(20s)) << front->link().status().text;
    EXPECT_EQ(front->link().figures().events_lost, 0U);
    const std::vector<std::string> ids = front->ids();
    EXPECT_EQ(std::set<std::string>(ids.begin(), ids.end()).size(), 1U) << "it has kept its id";
  }
  std::this_thread::sleep_for(1s);  // what can be allowed still is
  std::uint64_t allowed = 0;
  for (const auto& asker : askers) allowed += asker->stop();
  EXPECT_LE(allowed, flows) << "one flow leads to one execution";
  EXPECT_GT(allowed, flows / 2) << "of what was used up only the answers under way are lost";
  EXPECT_EQ(end(SIGTERM), 0);

  std::map<GuardId, std::vector<std::uint64_t>> stored;
  ASSERT_TRUE(open()->search({.application = "shop", .function = "front"}, [&](std::uint64_t, EventBatch&& batch) {
    v1alpha1::Events events;
    EXPECT_TRUE(events.ParseFromString(batch.events));
    for (const auto& event : events.events()) {
      if (event.has_exchange()) stored[batch.guard].push_back(event.exchange().id());
    }
    return true;
  }));
  std::multiset<std::uint64_t> counts;
  for (const auto& [id, events] : stored) {
    counts.insert(events.size());
    for (std::uint64_t i = 0; i < events.size(); ++i) ASSERT_EQ(events[i], i + 1);
  }
  EXPECT_EQ(counts, std::multiset<std::uint64_t>(reported.begin(), reported.end()));
}

}  // namespace
}  // namespace sallyport::controller
