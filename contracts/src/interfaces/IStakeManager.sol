// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IGuarded} from "./IGuarded.sol";

/// @title Stakes: what a member stands to lose by lying.
/// @notice A stake belongs to one member of one run, and to no key: rotating keys neither loses nor escapes it. It goes
/// out whole, to the member's payout address, after a wait that is longer than anything that may still be found out.
interface IStakeManager is IGuarded {
    /// @param registry the RunRegistry whose members and runs these are
    /// @param token the one token of all stakes
    /// @param rewards the RewardsDistributor whose delay stakes must outlast
    /// @param treasury where slashed tokens go that no challenger gets; an address without a key burns them
    /// @param unbondSeconds from asking a stake back to getting it
    /// @param slashSeconds how long a fault can be reported
    /// @param deadSeconds time without a head after which a run counts as dead
    struct Setup {
        address registry;
        address token;
        address rewards;
        address treasury;
        address guardian;
        uint32 unbondSeconds;
        uint32 slashSeconds;
        uint32 deadSeconds;
    }

    /// @param minimum what a seat of the run must have staked
    /// @param faultMax what one fault costs at most: a mistake that many share must drain nobody
    struct Terms {
        uint96 minimum;
        uint96 faultMax;
    }

    /// @param staked what counts for a seat
    /// @param unbonding what is on its way out, and can still be slashed
    /// @param releaseAt when that may be taken out
    /// @param askedAt when a member that still holds a seat asked to get out; zero if it did not
    struct Stake {
        uint96 staked;
        uint96 unbonding;
        uint64 releaseAt;
        uint64 askedAt;
    }

    /// @notice How far a run had come at some time, so that it is known later what is too long ago.
    struct Clock {
        uint64 round;
        uint64 blockNumber;
        uint64 time;
    }

    /// @notice Of what one Update may exist: an honest member signs no second one with all of these equal, whatever the
    /// ledger takes back and however often the member crashes.
    struct Place {
        uint64 run;
        uint64 round;
        bytes32 previousHead;
        bytes32 member;
        uint64 baseRound;
        uint32 fragment;
    }

    /// @notice The rest of an Update.
    struct Work {
        uint16 version;
        bytes32 baseStateRoot;
        uint32 tau;
        uint32 innerSteps;
        uint64 tokens;
        string codec;
        bytes32 blobHash;
        uint64 blobSize;
        bytes32 keyHash;
        bytes32 traceRoot;
    }

    /// @param challenger who reported the fault first; zero if nobody did
    /// @param reward what is still to be paid for it
    struct Case {
        address challenger;
        uint96 reward;
    }

    /// @notice What a seat of this run must stake; never changed again.
    event TermsSet(uint64 indexed run, uint96 minimum, uint96 faultMax);
    /// @notice A member has so much staked now.
    event Staked(uint64 indexed run, bytes32 indexed member, uint96 amount, uint96 staked);
    /// @notice A member wants out while its seat is not taken from it. It counts for no seat from now on, and unbonding
    /// may begin at `unbondAt` in any case.
    event ExitAsked(uint64 indexed run, bytes32 indexed member, uint64 unbondAt);
    /// @notice All of a member's stake is on its way out.
    event Unbonding(uint64 indexed run, bytes32 indexed member, uint96 unbonding, uint64 releaseAt);
    /// @notice A member got its stake back.
    event Withdrawn(uint64 indexed run, bytes32 indexed member, address to, uint96 amount);
    /// @notice A member signed two different Updates for one place. `active`: what is left still counts for a seat.
    event Slashed(
        uint64 indexed run,
        bytes32 indexed member,
        bytes32 indexed place,
        address challenger,
        uint96 fromStaked,
        uint96 fromUnbonding,
        uint96 reward,
        bool active
    );
    /// @notice A challenger was paid.
    event RewardCollected(bytes32 indexed place, address challenger, uint96 amount);
    /// @notice The treasury was paid.
    event SeizedCollected(uint256 amount);
    /// @notice A run's clock was looked at.
    event Marked(uint64 indexed run, uint64 round, uint64 blockNumber, uint64 time);

    /// @notice A stake must outlast rewards and faults that are still open.
    error UnbondingTooShort(uint256 unbondSeconds, uint256 needed);
    /// @notice Slashed tokens must be able to leave.
    error BadTreasury(address treasury);
    /// @notice A window of no time.
    error EmptyWindow();
    /// @notice Only the run's owner says what a seat must stake.
    error NotRunOwner(uint64 run, address sender);
    /// @notice Terms are set once, before the run starts: nobody stakes on what changes later.
    error TermsFixed(uint64 run);
    /// @notice Needed: 0 < faultMax <= minimum.
    error BadTerms(uint96 minimum, uint96 faultMax);
    /// @notice The run's owner has not said what a seat must stake.
    error NoTerms(uint64 run);
    /// @notice Only the member's controller moves its stake.
    error NotMemberController(bytes32 member, address sender);
    /// @notice There would be less staked than a seat must have.
    error BelowMinimum(uint256 staked, uint256 minimum);
    /// @notice The member has nothing staked.
    error NothingStaked(uint64 run, bytes32 member);
    /// @notice The member takes part: it must leave the run first.
    error StillJoined(uint64 run, bytes32 member);
    /// @notice The member's seat was not taken from it yet; unbonding may begin then in any case.
    error SeatNotGivenUp(uint256 unbondAt);
    /// @notice The member has nothing on its way out.
    error NothingUnbonding(uint64 run, bytes32 member);
    /// @notice The wait is not over.
    error NotReleased(uint256 releaseAt);
    /// @notice This fault was reported before; it is punished once.
    error AlreadyPunished(bytes32 place);
    /// @notice Twice the same Update is no fault.
    error SameUpdate(bytes32 update);
    /// @notice This key was never the member's.
    error NotMembersKey(bytes32 member, address key);
    /// @notice This key was replaced so long ago that whoever has it now may be anybody.
    error KeyTooOld(address key, uint256 untilBlock);
    /// @notice The round was over too long ago.
    error RoundTooOld(uint64 round, uint64 oldest);
    /// @notice The member has nothing in this run that could be slashed.
    error NothingToSlash(uint64 run, bytes32 member);
    /// @notice There is nothing to pay out.
    error NothingToCollect();

    /// @notice Say what a seat of a run must stake, as its owner, once, before it starts.
    function setTerms(uint64 run, Terms calldata terms) external;

    /// @notice Add to a member's stake, as its controller, who must have approved it. Zero takes an asked exit back.
    function stake(uint64 run, bytes32 member, uint96 amount) external;

    /// @notice Begin to take a member's whole stake out, as its controller. It must have left the run and have no seat,
    /// unless the run is dead. Where a seat is not taken from it, this asks for it, and again after `deadSeconds` begins.
    function unbond(uint64 run, bytes32 member) external;

    /// @notice Pay out what has waited long enough, to the member's payout address; anyone may send this.
    function withdraw(uint64 run, bytes32 member) external;

    /// @notice Report that a member signed two different Updates for one place. A tenth of what it loses is kept for the
    /// sender; nothing else decides, and no bond is needed, since two signatures are the whole proof.
    function slash(
        Place calldata place,
        Work calldata first,
        Work calldata second,
        bytes calldata firstSignature,
        bytes calldata secondSignature
    ) external;

    /// @notice Pay the challenger of a fault; anyone may send this.
    function collectReward(bytes32 place) external;

    /// @notice Pay the treasury; anyone may send this.
    function collectSeized() external;

    /// @notice Look at a run's clock. The more often anyone does, the more exactly the window for reports ends.
    function mark(uint64 run) external;

    /// @notice What a seat of a run must stake; zero if nothing was said.
    function termsOf(uint64 run) external view returns (Terms memory);

    /// @notice A member's stake in a run.
    function stakeOf(uint64 run, bytes32 member) external view returns (Stake memory);

    /// @notice Whether a member has staked enough for a seat and does not want out.
    function isActive(uint64 run, bytes32 member) external view returns (bool);

    /// @notice A fault that was punished, by the hash of its place.
    function caseOf(bytes32 place) external view returns (Case memory);

    /// @notice Rounds up to `older.round`, and keys replaced up to `older.blockNumber`, are too old for a report.
    function clockOf(uint64 run) external view returns (Clock memory older, Clock memory newer);

    /// @notice What the treasury can collect.
    function seized() external view returns (uint256);
}
