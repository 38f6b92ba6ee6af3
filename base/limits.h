#pragma once
// Everything that can grow has its cap here, with its unit in its name. docs/architecture.md prints this table.

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace sallyport::limits {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Connections.
inline constexpr std::size_t kPlacesPerWorkerMax =
    12'288;  // of connections; fewer where descriptors are scarce. A new one gets that of the longest silent
inline constexpr std::size_t kReservePerWorkerMax = 256;       // connections beyond the places, to be told 503
inline constexpr milliseconds kEvictionSilenceMin{1'000};      // what an honest client gets for its hello in any flood
inline constexpr milliseconds kPlaceWaitMax{1'100};            // for a place of a silent connection; a little more
inline constexpr std::size_t kDescriptorsReservedMax = 1'024;  // not for connections; a fourth where there are few
inline constexpr int kNamespaceBacklogMax =
    4'096;  // waiting at the listeners of `sallyport run`; somaxconn may lower it
inline constexpr std::size_t kAcceptsPerWakeMax = 64;
inline constexpr milliseconds kAcceptRetryDelay{100};  // after EMFILE, ENFILE, ENOBUFS, ENOMEM
inline constexpr std::size_t kUpstreamIdlePerHostMax = 64;
inline constexpr std::size_t kUpstreamIdlePerWorkerMax = 512;
inline constexpr seconds kUpstreamIdleTimeout{55};   // under the 60 s of most servers
inline constexpr seconds kUpstreamLifetimeMax{600};  // a name's addresses and certificate are looked at again
inline constexpr seconds kUpstreamReapInterval{5};   // how late an idle connection may be closed
inline constexpr std::size_t kTlsSessionsPerWorkerMax = 1'024;
inline constexpr seconds kTlsSessionAgeMax{3'600};  // then an upstream's certificate is verified again

// Sniffing.
inline constexpr std::size_t kClientHelloBytesMax = 16'000;  // the handshake message; ML-KEM hellos need about 1,800
inline constexpr std::size_t kSniffBytesMax = 16'384;        // hello plus record headers: one buffer
inline constexpr seconds kSniffTimeout{10};
inline constexpr milliseconds kServerFirstSilence{1'000};  // learn and audit: then the client waits for the server
inline constexpr seconds kHandshakeTimeout{10};

// HTTP/1.
inline constexpr std::size_t kHeadBytesMax = 65'536;  // start line and header section
inline constexpr std::size_t kRequestTargetBytesMax = 32'768;
inline constexpr std::size_t kMethodBytesMax = 32;  // the longest that is registered has 16
inline constexpr std::size_t kHeaderCountMax = 256;
inline constexpr std::size_t kConnectionOptionsMax = 32;  // fields that Connection names; each costs a pass
inline constexpr std::size_t kTrailerBytesMax = 8'192;
inline constexpr std::size_t kChunkLineBytesMax = 256;         // chunk size and its extensions
inline constexpr std::size_t kInformationalResponsesMax = 16;  // 1xx before a final response
inline constexpr seconds kRequestHeadTimeout{30};              // from the first byte of a head to its last
inline constexpr seconds kKeepAliveTimeout{75};                // idle client connections
inline constexpr seconds kBodyIdleTimeout{300};                // no byte in either direction
inline constexpr seconds kResponseHeadTimeout{300};            // slow handlers exist; the client usually gives up first
inline constexpr std::uint64_t kWebSocketMessageBytesMax = 128 << 20;  // unless the policy says another; none is held
inline constexpr std::uint64_t kWebSocketMessageBytesLimit = 1ULL << 40;  // the largest that a policy may say
inline constexpr seconds kTunnelIdleTimeout{3'600};                       // WebSocket and passed-through connections
inline constexpr seconds kLingerTimeout{30};     // draining an unread body after an early answer, in all
inline constexpr seconds kLingerIdleTimeout{5};  // and while nothing comes
inline constexpr std::uint64_t kLingerBytesMax = 1ULL << 30;
inline constexpr milliseconds kDrainTick{20};             // how often a drain looks whether all has ended
inline constexpr milliseconds kTlsTakeOverAfter{100};     // a connection that had one exchange is silent for so long
inline constexpr std::uint32_t kTlsEmptyRecordsMax = 32;  // in a row, that carry no data
inline constexpr std::size_t kBufferBytes = 16'384;       // one TLS record
inline constexpr std::size_t kBulkBufferBytes = 65'536;   // of a body that keeps coming: what goes into one system call
inline constexpr std::size_t kBulkBuffersPerWorkerMax = 32;  // the other bodies move on record by record
inline constexpr std::size_t kFairnessBytes = 256 * 1024;    // moved before another connection gets its turn

// Coroutine frames that a thread keeps for the next.
inline constexpr std::size_t kPooledFrameBytesMax = 4'096;  // larger ones are the allocator's
inline constexpr std::size_t kPooledFramesMax = 32;         // of each size, in steps of 64 bytes

// HTTP/2. Heads and trailers have the bounds of HTTP/1.
inline constexpr std::uint32_t kH2StreamsMax = 128;           // exchanges under way on one connection
inline constexpr std::uint32_t kH2StreamWindow = 65'535;      // bytes of a body that may wait for their reader
inline constexpr std::int32_t kH2ConnectionWindow = 1 << 20;  // and of all bodies of a connection
inline constexpr std::size_t kH2OutBytes = 32'768;            // frames gathered for one write
inline constexpr std::size_t kH2HeaderBytesSeenMax =
    262'144;                                              // of one header block, kept or not; then the connection ends
inline constexpr std::size_t kH2ContinuationsMax = 8;     // frames of one header block besides its first
inline constexpr std::size_t kH2SettingsMax = 32;         // in one frame
inline constexpr std::int64_t kH2IdleFramesMax = 10'000;  // frames that ask for nothing: so many at once, and
inline constexpr std::int64_t kH2IdleFramesPerSecond = 500;
inline constexpr std::uint32_t kH2ResetCost = 10;   // a reset counts for so many of them: 1,000 at once, 50 a second
inline constexpr milliseconds kH2DrainNotice{100};  // for requests that are on their way when a drain begins
inline constexpr seconds kH2Look{2};                // how late a time-out of a connection may be noticed
inline constexpr seconds kH2SettingsTimeout{10};    // a server's first frame, without which it speaks no HTTP/2
inline constexpr std::int64_t kH2WindowsPerWorkerMax =
    64 << 20;  // bytes that all connections together may send over the 64 KiB that each may begin with

// Upstream.
inline constexpr seconds kResolveTimeout{10};
inline constexpr milliseconds kResolveTryTimeout{1'250};       // one question to one server; doubles with each round
inline constexpr milliseconds kResolveSecondFamilyDelay{500};  // for AAAA once A is there and the other way round
inline constexpr std::size_t kResolverLookupsMax = 256;        // names looked up at one time
inline constexpr seconds kConnectTimeout{10};                  // per address
inline constexpr milliseconds kHappyEyeballsDelay{250};        // RFC 8305 section 5
inline constexpr unsigned kCircuitFailures = 5;  // to connect, in a row: then the destination is left alone
inline constexpr milliseconds kCircuitWaitMin{1'000}, kCircuitWaitMax{30'000};  // for so long, doubling
inline constexpr std::size_t kCircuitsMax = 1'024;                              // destinations a worker remembers
inline constexpr std::size_t kServerProtocolsMax = 1'024;  // servers of which a worker remembers what they speak
inline constexpr seconds kServerProtocolTime{600};         // for so long
inline constexpr seconds kHttp1AfterBrokenHttp2{60};       // then HTTP/2 is tried again with a server that broke it
inline constexpr std::size_t kAddressesPerNameMax = 16;
inline constexpr std::size_t kProxyAnswerBytesMax = 16'384;  // of an upstream proxy, to CONNECT
inline constexpr std::size_t kResolverCacheMax = 1'024;
inline constexpr seconds kResolverTtlMin{1}, kResolverTtlMax{300}, kResolverNegativeTtl{5};

// DNS service for the function.
inline constexpr std::size_t kDnsMessageBytesMax = 4'096;
inline constexpr std::size_t kDnsNamesMax = 65'536;  // synthetic addresses handed out in one run
inline constexpr std::uint32_t kDnsSyntheticTtlSeconds = 60;
inline constexpr std::uint32_t kDnsNegativeTtlSeconds = 5;  // short: the next policy may allow the name
inline constexpr std::size_t kDnsTcpConnectionsMax = 64;
inline constexpr seconds kDnsTcpIdleTimeout{10};          // between two queries of a connection, and for each write
inline constexpr std::size_t kDnsQueriesPerWakeMax = 64;  // answered before other sockets of the worker get their turn
inline constexpr std::size_t kDnsReportsMax = 4'096;      // names reported as refused in one run

// Certificates.
inline constexpr std::size_t kLeafCacheMax = 1'024;  // per worker
inline constexpr seconds kLeafLifetime{24 * 3600};
inline constexpr seconds kCertificateBackdating{3'600};    // clocks that run behind
inline constexpr seconds kLeafRenewal{4 * 3'600};          // minted anew with less left: clocks that run ahead
inline constexpr std::size_t kLeafNamesMax = 64;           // of one certificate; the guard's leaves have one
inline constexpr unsigned kTicketsUntakenMax = 32;         // TLS sessions given out before one is taken up; then
inline constexpr unsigned kTicketsUntakenEvery = 8;        // only every so many connections get one
inline constexpr seconds kRootLifetime{365 * 24 * 3'600};  // bounds a long run: its root dies with it
inline constexpr std::size_t kCaPemBytesMax = 1 << 20;
inline constexpr std::size_t kCertificateRequestBytesMax = 2'048;
inline constexpr std::size_t kPermittedHostsBytesMax = 32'768;  // of names in one CA certificate: clients take chains
                                                                // of 100 KiB at most, and each handshake carries it
inline constexpr std::size_t kCaChainMax = 8;                   // certificates in an external CA's file
inline constexpr std::size_t kTrustBundleBytesMax = 8 << 20;    // the system's roots are about 0.2 MiB
inline constexpr int kLocalRootFilesMax = 256;                  // people's additions to the system's roots

// Records.
inline constexpr std::size_t kRecordsQueuedMax = 65'536;  // then exchanges wait: none goes unrecorded
inline constexpr std::size_t kSummaryHostsMax = 10'000;   // whose times the summary compares
inline constexpr std::size_t kRecordsBatchMax = 256;
inline constexpr std::size_t kLogWriteBytes = 65'536;  // gathered lines of the log that are written at once
inline constexpr milliseconds kRecordsBatchDelay{50};  // how stale the log, the terminal and the metrics may be

// Admin socket.
inline constexpr seconds kAdminTimeout{10};
inline constexpr std::uint32_t kAdminHeadBytesMax = 8'192;

// Policy documents.
inline constexpr milliseconds kPolicySettleDelay{20};  // quiet time after a change of the file
inline constexpr milliseconds kPolicySettleMax{200};   // however busy its directory is
inline constexpr std::size_t kPolicyBytesMax = 1 << 20;
inline constexpr std::size_t kPolicyEndpointsMax = 4'096;
inline constexpr std::size_t kPolicyRulesPerEndpointMax = 1'024;
inline constexpr std::size_t kPolicyErrorsMax = 50;  // reported at once
inline constexpr std::size_t kPolicyLimitsMax = 256;
inline constexpr std::uint32_t kPolicyRateMax = 1'000'000;  // of requests in one second, minute or hour, and at once
inline constexpr std::size_t kPolicyCredentialsMax = 1'024;
inline constexpr std::size_t kPolicyMethodsPerRuleMax = 64;
inline constexpr std::size_t kPolicyPortsPerEndpointMax = 64;
inline constexpr std::size_t kPolicyAddressesPerEndpointMax = 256;
inline constexpr std::size_t kPolicyDepthMax = 32;       // of YAML values inside each other; the schema needs 8
inline constexpr std::size_t kPolicyNodesMax = 262'144;  // YAML values: a tree of 40 MiB at worst
inline constexpr std::size_t kPolicyRegexesMax = 1'024;  // each may grow to the next line but one
inline constexpr std::size_t kRegexBytesMax = 4'096;
inline constexpr std::int64_t kRegexMemoryBytesMax = 512 * 1024;  // program and automaton of one expression
inline constexpr std::size_t kDraftSiblingsMax = 8;               // paths under one directory before a draft joins them
inline constexpr std::size_t kDraftRootSiblingsMax = 32;          // joining at the root means "everything"
inline constexpr std::size_t kDraftPathDepthMax = 16;             // segments
inline constexpr std::size_t kDraftSegmentBytesMax = 128;         // longer ones are taken for identifiers
inline constexpr std::size_t kDraftPathsPerEndpointMax = 256;     // nodes of an endpoint's tree
inline constexpr std::size_t kDraftPathsMax = 65'536;             // of all endpoints of a draft: 20 MiB at worst
inline constexpr std::size_t kDraftMethodsMax = 16;               // of one path; with more it gets any
inline constexpr std::size_t kDraftAddressesMax = 32;             // of one endpoint, before they are joined to prefixes
inline constexpr std::size_t kSecretBytesMax = 16'384;

// Flow graphs.
inline constexpr std::size_t kFlowNodesMax = 4'096;
inline constexpr std::size_t kFlowStepsMax = 64;              // of one group, set or loop
inline constexpr std::size_t kFlowEdgesMax = 65'536;          // of one graph
inline constexpr std::uint32_t kFlowTimesMax = 1'000'000;     // the largest counter that can be written
inline constexpr std::size_t kFlowPatternBytesMax = 4'096;    // of one pattern
inline constexpr std::size_t kFlowConfigurationsMax = 64;     // in which one execution may be at once
inline constexpr std::size_t kFlowTicketsMax = 256;           // requests of one execution whose answers are awaited
inline constexpr std::size_t kFlowExpectedMax = 8;            // requests that a denial names as expected
inline constexpr std::size_t kFlowHistoryMax = 16;            // nodes of an execution's way that a denial tells of
inline constexpr std::size_t kFlowReadingsMax = 32;           // of which open execution sent what, kept at once
inline constexpr std::size_t kFlowReadingsWorkMax = 1'024;    // open executions, counted anew in each of the readings
inline constexpr std::size_t kActionBytesMax = 512;           // of an API action
inline constexpr std::size_t kActionBodyBytesMax = 1 << 20;   // of a body in which an action is looked for
inline constexpr std::size_t kActionBytesHeldMax = 64 << 20;  // of such bodies, per worker
inline constexpr seconds kActionBodyTimeout{60};              // for all of such a body
inline constexpr std::size_t kActionJsonDepthMax = 128;       // values inside each other
inline constexpr std::size_t kPolicyActionsPerRuleMax = 256;

// Executions and traces.
inline constexpr std::size_t kExecutionsOpenMax = 1'024;  // of one guard, for all of its workers
inline constexpr seconds kExecutionTimeout{15 * 60};      // the longest that AWS lets a function run
inline constexpr seconds kExecutionTick{1};               // how late an execution ends that has been open for so long
inline constexpr std::size_t kInboundPortsMax = 64;       // of the function, that others reach through the guard
inline constexpr std::size_t kInboundProbesMax = 64;      // of a policy
inline constexpr std::size_t kInboundCallersMax = 1'024;  // of a policy
inline constexpr std::size_t kTraceFlowsMax = 10'000;     // of one trace; more are counted, and it is not learned from
inline constexpr std::size_t kTraceBytesMax = 16 << 20;   // of one trace in a file
inline constexpr std::size_t kTraceBytesHeldMax = 256 << 20;  // of all executions that are open, about
inline constexpr std::size_t kTraceFileBytesMax = std::size_t{8} << 30;

// Learning a flow graph: what is beyond these is refused, as no graph that a person can review comes of it.
inline constexpr std::size_t kLearnExecutionsMax = 10'000'000;
inline constexpr std::size_t kLearnFlowsMax = 200'000'000;     // of all executions
inline constexpr std::size_t kLearnOperationsMax = 4'000'000;  // different ones
inline constexpr std::size_t kLearnPathDepthMax = 48;          // segments that are looked at one by one
inline constexpr std::size_t kLearnTextBytesMax = 2'048;       // of a path or a query that is looked at at all
inline constexpr std::size_t kLearnQueryValuesMax = 24;        // of one query that are looked at one by one
inline constexpr std::size_t kLearnParallelMax = 256;          // requests beside one that are compared with it
inline constexpr std::size_t kLearnFormsMax = 200'000;         // different executions, after folding
inline constexpr std::uint64_t kLearnStepsMax = 500'000'000;   // of inference: a few seconds

// Tags.
inline constexpr std::size_t kTagApplicationBytesMax = 63;
inline constexpr std::size_t kTagFunctionBytesMax = 253;
inline constexpr std::size_t kTagBytesMax = 530;  // the text of the longest
inline constexpr seconds kTagLifetime{15 * 60};   // an execution may take as long
inline constexpr seconds kTagSkew{60};            // between the clocks of two guards

// The controller's store.
inline constexpr std::size_t kStoreQueuedBytesMax = 64 << 20;  // of events that wait to be written
inline constexpr std::chrono::milliseconds kStoreRetryDelay{1'000};
inline constexpr milliseconds kStoreDrainTime{5'000};  // for what waits to be written before the state is built anew
inline constexpr std::uint64_t kStoreBytesMax = 16ULL << 30;  // on the disk; the default
inline constexpr std::uint64_t kStoreBytesMin = 64ULL << 20;  // that it may be set to
inline constexpr std::size_t kStoredRowBytes = 256;           // that a batch or a decided ask takes besides itself

// What is stored of what guards tell. Beyond a rate they are told later that it is stored, and so wait; who does not
// wait is refused.
inline constexpr double kGuardBytesPerSecond = 1 << 20, kGuardBytesBurst = 64 << 20;
inline constexpr double kFunctionBytesPerSecond = 8 << 20, kFunctionBytesBurst = 512 << 20;  // of all its guards
inline constexpr double kGuardDebtBytesMax = 32 << 20, kFunctionDebtBytesMax = 1 << 30;      // then none is taken

// The store in Redis.
inline constexpr milliseconds kRedisTimeout{2'000};          // to connect, and for each read and write
inline constexpr milliseconds kRedisReplicasTimeout{1'000};  // for the replicas to have a write
inline constexpr milliseconds kStoreLeaseTime{2'000};        // then another controller may take over
inline constexpr milliseconds kStoreLeaseRenewInterval{500};
inline constexpr unsigned kShards = 16, kShardsMax = 64;   // the default, and the most
inline constexpr std::size_t kReplicasMax = 64;            // controllers that share one Redis
inline constexpr milliseconds kReplicaLookInterval{200};   // at who lives, and what is free
inline constexpr milliseconds kShardUnclaimedTime{1'500};  // then one takes it that has its share already
inline constexpr seconds kShardUnclaimedKept{10};          // and does not look for another that would have it
inline constexpr seconds kPassedOnTimeout{10};             // for a call that another replica answers

// The controller.
inline constexpr std::size_t kAlarmsWaitingMax = 4'096;  // that differ, to be written
inline constexpr std::size_t kAlarmsDifferentMax = 64;   // of one kind and function in kAlarmsApart; then "others"
inline constexpr std::size_t kAlarmTextBytesMax = 1'024;
inline constexpr milliseconds kAlarmsTogether{200};
inline constexpr milliseconds kAlarmsApart{10 * 60'000};     // then one that is alike is a new one
inline constexpr milliseconds kEventAgeMax{24 * 3'600'000};  // that a guard's clock is believed
inline constexpr milliseconds kGuardMemory{24 * 3'600'000};  // that an instance which is gone may come back as itself
inline constexpr std::size_t kGuardsRememberedMax = 65'536;  // of one function; then the oldest that are gone go
inline constexpr milliseconds kTagKeySettle{10'000};  // that a new key is verified with before tags are made with it
inline constexpr std::size_t kInstanceBytesMax = 128;
inline constexpr std::size_t kApplicationsMax = 1'024;
inline constexpr milliseconds kControllerTick{200};
inline constexpr seconds kTenantCaLifetime{825LL * 24 * 3'600};  // of an application's own CA
inline constexpr seconds kTenantCaSettle{24 * 3'600};            // that a new one is trusted before it signs
inline constexpr std::size_t kTenantCasMax = 4;                  // of one application, at once
inline constexpr seconds kGuardCertificateLifetime{24 * 3'600};  // the default, and the most
inline constexpr seconds kGuardCertificateLifetimeMin{5};
inline constexpr milliseconds kGuardCertificateInterval{5'000};  // between two that one guard is given
inline constexpr std::uint32_t kGuardCertificateBurst = 10;
// Of the CPU, in seconds, that goes into certificates of all guards of a function; one takes about 0.3 ms, and 0.1 ms
// where the request is known.
inline constexpr double kFunctionSigningPerSecond = 0.1, kFunctionSigningBurst = 10;

// Reviews of service account tokens.
inline constexpr std::size_t kTokenReviewsMax = 8'192;  // that are asked for, or wait for that
inline constexpr std::size_t kTokenReviewsAtOnce = 16;
inline constexpr std::size_t kTokenReviewBytesMax = 65'536;  // of an answer
inline constexpr seconds kTokenReviewTimeout{5};
inline constexpr seconds kTokenReviewKept{60};
inline constexpr std::size_t kTokenReviewsKeptMax = 65'536;
inline constexpr std::size_t kServiceAccountsMax = 64;  // of a function

// Administration of the controller.
inline constexpr std::size_t kAdminConnectionsMax = 64;
inline constexpr seconds kControllerRootLifetime{825LL * 24 * 3'600};  // of its own CA
inline constexpr seconds kControllerLeafLifetime{397LL * 24 * 3'600};  // made anew at each start
inline constexpr seconds kIdentityLookInterval{10};                    // for a certificate that has been replaced
inline constexpr seconds kControllerCallTimeout{30};
inline constexpr seconds kAdminIdleTimeout{30};
inline constexpr seconds kAdminBodyTimeout{30};
inline constexpr std::size_t kAdminEventsMax = 10'000;  // in one answer
inline constexpr std::size_t kAdminAnswerBytesMax = 8 << 20;
// Application graphs.
inline constexpr std::size_t kApplicationFunctionsMax = 1'024;
inline constexpr std::size_t kApplicationEdgesMax = 8'192;
inline constexpr std::uint32_t kRedeliveriesMax = 1'000;   // of one flow
inline constexpr seconds kFollowWithin{5 * 60};            // of a flow, may what it leads to begin; the default
inline constexpr seconds kRedeliveryWindow{5 * 60};        // the default
inline constexpr seconds kApplicationTimeMax{24 * 3'600};  // that a graph may say for either

// The state of one application.
inline constexpr std::size_t kTrackedExecutionsMax = 2'000'000;
inline constexpr std::size_t kTrackedFlowsMax = 4'000'000;  // that may still lead to something
inline constexpr std::size_t kWaitingEntriesMax = 65'536;   // for a predecessor, of all functions
inline constexpr milliseconds kPairingGrace{300};  // that an ask waits for a flow, which another guard has yet to tell
inline constexpr seconds kReportGrace{30};         // the same of an execution that has begun: its guard's link may lag
inline constexpr milliseconds kBeatInterval{1'000};
inline constexpr int kBeatsMissedMax = 3;                // then an instance is lost
inline constexpr std::size_t kRatesTrackedMax = 65'536;  // buckets of limits; then none of a new scope is granted
inline constexpr milliseconds kLeaseLifetime{1'000};
inline constexpr seconds kLeaseReportTime{5 * 60};  // in which what was sent on a lease is reported
inline constexpr std::uint32_t kLeaseMax = 10'000;  // requests at once
// The link between guards and the controller.
inline constexpr std::size_t kLinkMessageBytesMax = 4 << 20;
inline constexpr std::size_t kLinkRegisterBytesMax = 65'536;  // of the first message: who sends it is not known yet
inline constexpr seconds kLinkRegisterTimeout{10};            // from being accepted to being registered
inline constexpr seconds kLinkMessageTimeout{30};             // from the first byte of a message to its last
inline constexpr seconds kLinkWriteTimeout{10};               // for each piece of the next line
inline constexpr std::size_t kLinkWritePieceBytes = 262'144;
inline constexpr seconds kLinkCloseTimeout{2};                 // for the other side's close frame
inline constexpr std::size_t kLinkQueuedBytesMax = 16 << 20;   // to one peer: it is cut
inline constexpr std::size_t kLinkQueuedBytesPause = 262'144;  // to one peer: no more is read from it meanwhile
inline constexpr std::size_t kLinkHandedBytesMax = 64 << 20;   // to one loop by other threads, and not taken by it
inline constexpr std::size_t kLinkHeldBytesMax = 256 << 20;    // of messages that are under way, of one loop
inline constexpr std::size_t kLinkMessagesPerTurn = 256;       // of one link, before another gets its turn
inline constexpr std::size_t kLinkGuardsPerLoopMax = 65'536;
inline constexpr std::size_t kLinkUnregisteredPerLoopMax = 64;  // the rest waits in the backlog; where all are silent
inline constexpr milliseconds kLinkEvictionSilenceMin{1'000};   // for so long the one that is silent longest makes room
inline constexpr std::size_t kLinkLoopsMax = 64;
inline constexpr milliseconds kLinkBeatMin{100}, kLinkBeatMax{60'000};
inline constexpr int kLinkBeatsMissedMax = 3;                                    // then the other side is lost
inline constexpr milliseconds kLinkReconnectMin{100}, kLinkReconnectMax{1'500};  // doubling; of it, half by chance
inline constexpr int kLinkHopsMax = 4;               // from controller to controller, before it waits
inline constexpr seconds kLinkRefusedWait{30};       // where it is of little use
inline constexpr std::size_t kLinkAsksMax = 16'384;  // not answered yet
inline constexpr std::size_t kLinkAskBytesMax = 65'536;

// What a guard keeps for its controller.
inline constexpr std::size_t kSpoolEventsMax = 131'072;
inline constexpr std::size_t kSpoolBytesMax = 32 << 20;
inline constexpr std::size_t kSpoolSentEventsMax = 16'384;  // that the controller has not taken yet
inline constexpr std::size_t kSpoolSentBytesMax = 8 << 20;  // the same; a guard that sends more is refused
inline constexpr std::size_t kSpoolBatchEvents = 256;
inline constexpr std::size_t kSpoolBatchBytes = 262'144;
inline constexpr milliseconds kSpoolBatchDelay{5};

// A guard that is a member of an application.
inline constexpr seconds kFirstUpdateTimeout{10};          // from its start to the first policy that can be used
inline constexpr milliseconds kEntryAskTimeout{1'000};     // the controller keeps an ask for kPairingGrace at most
inline constexpr milliseconds kLeaseAskTimeout{1'000};     // for the answer to a LeaseAsk
inline constexpr milliseconds kLeaseWaitMax{500};          // of one request, for a lease
inline constexpr std::size_t kLeaseWaitersMax = 1'024;     // requests, for one lease
inline constexpr std::size_t kMemberLimitsMax = 256;       // of an Update
inline constexpr std::size_t kMemberPatternsMax = 4'096;   // of an Update: of what is announced, and of each limit
inline constexpr std::size_t kMemberSecretsMax = 1'024;    // of an Update
inline constexpr std::size_t kMemberTagKeysMax = 16;       // of an Update
inline constexpr std::size_t kRefusalBytesMax = 2'048;     // of the text that says why an Update is not in force
inline constexpr std::size_t kJoinTokenBytesMax = 16'384;  // also of a service account's
inline constexpr seconds kCertificateRetryMin{5}, kCertificateRetryMax{300};  // until it is asked for one again
inline constexpr milliseconds kFinalEventsTimeout{3'000};  // for the controller to take the last events

}  // namespace sallyport::limits
