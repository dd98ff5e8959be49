// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IGuarded} from "./IGuarded.sol";

/// @title Rewards: what a run's owner pays its members for, settled by the seats, epoch after epoch.
/// @notice An epoch's root has cumulative amounts as its leaves, so the newest root is all that a member needs, and one
/// transaction pays any number of epochs. What captured seats can sign is bounded by the rate, by time, by the escrow and
/// by the members that the owner let in.
interface IRewardsDistributor is IGuarded {
    /// @param registry the RunRegistry whose members and runs these are
    /// @param token the one token of all pots
    /// @param auditSeconds how long audits may take after a round
    /// @param disputeSeconds how long disputes may take after an audit
    /// @param activationSeconds from a root's landing to its first claim
    /// @param settleSeconds what the seats have to settle the last epoch, once a pot is closed
    /// @param deadSeconds time without a head after which anybody may close a run's pot
    struct Setup {
        address registry;
        address token;
        address guardian;
        uint32 auditSeconds;
        uint32 disputeSeconds;
        uint32 activationSeconds;
        uint32 settleSeconds;
        uint32 deadSeconds;
    }

    /// @param price base units for a million accepted tokens
    /// @param cap base units that a member earns in a round at most
    /// @param maxMembers members that may earn in a round; this many caps are the run's rate
    /// @param minRoundSeconds rounds that come faster than this do not raise what may be earned
    struct Terms {
        uint96 price;
        uint96 cap;
        uint32 maxMembers;
        uint32 minRoundSeconds;
    }

    /// @param owner who opened it, and gets back what nobody earned
    /// @param openedAt when
    /// @param funded all that ever came in
    /// @param refunded what the owner got back
    /// @param paid what members claimed
    /// @param live epochs that are pending or active; the last of them counts
    /// @param kills how often the guardian killed an epoch; a signature over an epoch counts before the next kill only
    /// @param closedAt when the owner closed it; zero before
    /// @param killedAt when the guardian last killed an epoch
    /// @param workedMax non-empty rounds that may be paid once it is closed
    /// @param members that may earn now
    struct Pot {
        address owner;
        uint64 openedAt;
        uint128 funded;
        uint128 refunded;
        uint128 paid;
        uint32 live;
        uint32 kills;
        uint64 closedAt;
        uint64 killedAt;
        uint32 workedMax;
        uint32 members;
        Terms terms;
    }

    /// @notice A place in the run's chain where an epoch may end.
    /// @param worked non-empty rounds until there
    /// @param time the time of that head's block
    struct Mark {
        bytes32 head;
        uint32 worked;
        uint64 time;
    }

    /// @notice What the seats sign.
    /// @param epoch the one after the last that is live
    /// @param lastRound the last round that is in it; the next epoch begins after it
    /// @param head the head that ended that round: after a reorg an epoch of the other fork is worth nothing
    /// @param root the Merkle root of (chain id, distributor, run, member, cumulative amount)
    /// @param total the sum of all cumulative amounts
    /// @param dataHash the hash of the published leaves
    /// @param previousRoot the root before; zero for the first
    /// @param kills how often epochs of this run were killed
    struct Epoch {
        uint64 run;
        uint32 epoch;
        uint64 lastRound;
        bytes32 head;
        bytes32 root;
        uint128 total;
        bytes32 dataHash;
        bytes32 previousRoot;
        uint32 kills;
    }

    /// @notice What is kept of an epoch.
    struct Settled {
        bytes32 root;
        uint128 total;
        uint64 activeFrom;
        uint64 lastRound;
    }

    enum Standing {
        Never,
        Allowed,
        Disallowed
    }

    /// @param standing whether the owner lets the member earn; who ever was allowed can claim what it earned
    /// @param claimed what it was paid so far
    struct Account {
        Standing standing;
        uint128 claimed;
    }

    /// @notice A run pays from the round after `afterRound` on, by these terms.
    event PotOpened(uint64 indexed run, address indexed owner, uint64 afterRound, Terms terms);
    /// @notice So much more can be earned; `funded` is all that ever came in.
    event Funded(uint64 indexed run, address indexed from, uint128 amount, uint128 funded);
    /// @notice A member may earn from this round on.
    event MemberAllowed(uint64 indexed run, bytes32 indexed member, uint64 firstRound);
    /// @notice A member earns nothing after this round.
    event MemberDisallowed(uint64 indexed run, bytes32 indexed member, uint64 lastRound);
    /// @notice An epoch may end here.
    event HeadMarked(uint64 indexed run, uint64 indexed round, bytes32 head, uint32 worked, uint64 time);
    /// @notice Two thirds of the seats signed an epoch.
    event EpochSettled(
        uint64 indexed run,
        uint32 indexed epoch,
        bytes32 root,
        uint128 total,
        uint64 lastRound,
        bytes32 head,
        bytes32 dataHash,
        uint64 activeFrom
    );
    /// @notice The guardian killed this epoch and all after it; `live` ones remain.
    event EpochKilled(uint64 indexed run, uint32 indexed epoch, uint32 live, uint32 kills);
    /// @notice A member was paid; `claimed` is what it was paid in all.
    event RewardClaimed(uint64 indexed run, bytes32 indexed member, uint32 epoch, address to, uint128 amount, uint128 claimed);
    /// @notice No round after this one is paid.
    event PotClosed(uint64 indexed run, uint64 lastRound, uint32 workedMax);
    /// @notice The owner got back what nobody earned.
    event Refunded(uint64 indexed run, address to, uint128 amount);

    /// @notice Audits and disputes must be over before anybody is paid.
    error ActivationTooShort(uint256 activationSeconds, uint256 needed);
    /// @notice A window of no time.
    error EmptyWindow();
    /// @notice Only the run's owner opens its pot.
    error NotRunOwner(uint64 run, address sender);
    /// @notice Only who opened the pot does this.
    error NotPotOwner(uint64 run, address sender);
    /// @notice A run has one pot.
    error PotExists(uint64 run);
    /// @notice The run has no pot.
    error NoPot(uint64 run);
    /// @notice Terms need a price, a cap, members and a time that are not zero.
    error BadTerms();
    /// @notice The pot is closed.
    error PotIsClosed(uint64 run);
    /// @notice Nothing was sent.
    error NothingSent();
    /// @notice No member has this id.
    error NoSuchMember(bytes32 member);
    /// @notice The member may earn already.
    error AlreadyAllowed(uint64 run, bytes32 member);
    /// @notice The owner did not let this member earn.
    error NotAllowed(uint64 run, bytes32 member);
    /// @notice As many members as the terms say may earn already; more could earn more than the rate.
    error TooManyMembers(uint32 maxMembers);
    /// @notice The run has no head that an epoch could end with.
    error NotStarted(uint64 run);
    /// @notice This round's head is marked.
    error AlreadyMarked(uint64 run, uint64 round);
    /// @notice Another epoch is due.
    error WrongEpoch(uint32 given, uint32 due);
    /// @notice An epoch was killed since the seats signed.
    error WrongKills(uint32 given, uint32 kills);
    /// @notice The epoch follows another root than the last live one.
    error WrongPreviousRoot(bytes32 given, bytes32 previous);
    /// @notice A root is needed.
    error MissingRoot();
    /// @notice This head is not marked: it was never the run's, or nobody marked it when it was.
    error NotMarked(uint64 round, bytes32 head);
    /// @notice The epoch ends no later than the one before.
    error NoNewRounds(uint64 lastRound, uint64 previous);
    /// @notice Nobody's earnings fall.
    error TotalFalls(uint128 total, uint128 previous);
    /// @notice More than the rate allows for these rounds in this time.
    error AboveRate(uint256 total, uint256 most);
    /// @notice More than is in the pot.
    error AboveEscrow(uint256 total, uint256 escrow);
    /// @notice There is no such epoch, or it was killed.
    error NotLive(uint64 run, uint32 epoch);
    /// @notice The epoch is not active yet: it may still be killed.
    error NotActive(uint256 activeFrom);
    /// @notice The epoch is active: nobody can take it back.
    error AlreadyActive(uint256 activeFrom);
    /// @notice The root does not contain this member with this amount.
    error NotInRoot(bytes32 root);
    /// @notice The member has been paid this much already.
    error NothingToClaim(uint128 claimed);
    /// @notice Claims would exceed the epoch's total: later epochs were claimed, or its leaves add up to more than it says.
    error AboveTotal(uint256 paid, uint128 total);
    /// @notice Only the owner closes the pot of a run that is alive.
    error StillAlive(uint256 deadAt);
    /// @notice The owner must wait until the last epoch is settled and active.
    error NotRefundable(uint256 refundableAt);
    /// @notice All of it is earned, paid or given back.
    error NothingToRefund();

    /// @notice Open the pot of a run, as its owner.
    function openPot(uint64 run, Terms calldata terms) external;

    /// @notice Add to a pot. It comes back only as far as nobody earns it.
    function fund(uint64 run, uint128 amount) external;

    /// @notice Let a member earn, from the round after the one that is going on.
    function allow(uint64 run, bytes32 member) external;

    /// @notice Let a member earn no longer, after the round that is going on. What it earned stays its own.
    function disallow(uint64 run, bytes32 member) external;

    /// @notice Remember the run's head, so that an epoch may end with it; anyone may send this.
    function markHead(uint64 run) external;

    /// @notice Land an epoch; anyone may submit it.
    /// @param signatures of at least two thirds of the seats of now over the EIP-712 digest of `epoch`, sorted by signer
    function settle(Epoch calldata epoch, bytes calldata signatures) external;

    /// @notice Kill an epoch that is not active yet, and all after it, as the guardian. Nothing is paid by this; the seats
    /// can settle the same rounds again.
    function kill(uint64 run, uint32 epoch) external;

    /// @notice Pay a member what it earned until an epoch and was not paid yet, to its payout address; anyone may send this.
    function claim(uint64 run, uint32 epoch, bytes32 member, uint128 amount, bytes32[] calldata proof) external;

    /// @notice Close a pot, as its owner, or as anyone once the run is dead. The round that is going on is the last that is
    /// paid.
    function close(uint64 run) external;

    /// @notice Give the owner back what nobody earned; anyone may send this.
    function refund(uint64 run) external;

    /// @notice A run's pot; all zero if there is none.
    function potOf(uint64 run) external view returns (Pot memory);

    /// @notice An epoch; zero if there is none. It counts only if `potOf(run).live` is not below it.
    function epochOf(uint64 run, uint32 epoch) external view returns (Settled memory);

    /// @notice A marked head; zero if that round's is not.
    function markOf(uint64 run, uint64 round) external view returns (Mark memory);

    /// @notice A member's account in a run.
    function accountOf(uint64 run, bytes32 member) external view returns (Account memory);

    /// @notice What a run pays for one round at most.
    function rateOf(uint64 run) external view returns (uint256);

    /// @notice The number of non-empty rounds, counted from the run's first, for which there is money if each costs the
    /// whole rate. Members that do not stop then work for nothing.
    function fundedUntil(uint64 run) external view returns (uint256 worked);

    /// @notice From which time on the owner may have back what nobody earned; zero while the pot is open.
    function refundableAt(uint64 run) external view returns (uint256);

    /// @notice The longest that a round's reward takes once its run is closed: settling and activation.
    function rewardSeconds() external view returns (uint256);

    /// @notice What the seats sign for an epoch.
    function epochDigest(Epoch calldata epoch) external view returns (bytes32);
}
