"""One exception class per rule of the protocol, so that a refusal names the rule that was broken."""


class ProtocolError(ValueError):
    """Something a peer or a user did breaks a rule of the protocol."""


class MalformedMessage(ProtocolError):
    """The bytes are no message of the kind they claim to be: wrong type, field or size."""


class NotCanonical(ProtocolError):
    """The bytes decode, but are not the one canonical encoding of what they say."""


class MessageTooLarge(ProtocolError):
    """A message or one of its parts is above the size that peers keep and relay."""


class BadSignature(ProtocolError):
    """A signature is malformed, malleable, or not by the key that it should be by."""


class ForeignRun(ProtocolError):
    """A message belongs to another run, chain or folder."""


class ForeignHead(ProtocolError):
    """A message follows a head that is not the one this round follows."""


class WrongRound(ProtocolError):
    """A message names a round that does not follow the head it names."""


class NotATrainer(ProtocolError):
    """The author is not among the trainers of this round."""


class NotASeat(ProtocolError):
    """The author does not hold a seat in this round."""


class WrongBase(ProtocolError):
    """An update starts from a state other than the one that the round starts from."""


class AlreadyListed(ProtocolError):
    """Another update of the same member from the same state was listed before."""


class WrongCodec(ProtocolError):
    """An update is encoded in another way than the recipe says."""


class WrongFragment(ProtocolError):
    """An update names a fragment, an overlap or a trace that the recipe does not have."""


class WrongBlobSize(ProtocolError):
    """An update announces a blob of another size than the recipe's layout gives."""


class TooManySteps(ProtocolError):
    """An update claims more inner steps than were assigned, or none at all."""


class WrongTokenCount(ProtocolError):
    """An update claims other tokens than its inner steps can have read."""


class Equivocation(ProtocolError):
    """One author signed two different messages where only one may exist."""


class TooManyMessages(ProtocolError):
    """An author sent more messages of a kind than are kept for it."""


class WrongKey(ProtocolError):
    """A revealed key is not the one that the update committed to."""


class CannotOpen(ProtocolError):
    """A key does not open the ciphertext of its update: copied, damaged, or sealed for something else."""


class WrongProposer(ProtocolError):
    """A proposal comes from a seat whose turn it is not."""


class UnsortedList(ProtocolError):
    """A list that must be sorted and without repetition is not."""


class UnknownUpdate(ProtocolError):
    """A message refers to an update that is not known here (yet)."""


class WrongUpdatesRoot(ProtocolError):
    """A list of updates does not hash to the root that its body names."""


class WrongStateRoot(ProtocolError):
    """A state does not hash to the root that was certified."""


class WrongTrainersRoot(ProtocolError):
    """The trainers of a body are not those of the head it follows."""


class WrongMembershipChange(ProtocolError):
    """Promotions or drops of a body differ from what the certified lists give."""


class NotEnoughSignatures(ProtocolError):
    """Fewer than two thirds of the seats signed."""


class RepeatedSigner(ProtocolError):
    """A certificate counts a seat twice."""


class WrongHead(ProtocolError):
    """A certificate does not lead to the head that the ledger recorded."""


class WrongBlob(ProtocolError):
    """Bytes do not hash to the name of the blob that they were served as."""


class WrongManifest(ProtocolError):
    """A list of chunk hashes does not belong to the blob that it was served for."""


class MissingList(ProtocolError):
    """A history cannot be followed without the list of one of its rounds."""


class WrongTable(ProtocolError):
    """A table of rewards is not the one behind the root that the ledger has."""


class ReorgTooDeep(ProtocolError):
    """The ledger went back further than the heads that are kept."""
