"""One exception class per thing that a recipe, a corpus or a stranger's manifest can get wrong."""


class TrainingError(ValueError):
    """Something about model, data or training that the user (or whoever wrote the recipe) can mend."""


class UnknownModelType(TrainingError):
    """``model_type`` names no causal language model of Hugging Face."""


class BadModelConfig(TrainingError):
    """The model's configuration has an unknown key or an impossible value."""


class CannotLoadModel(TrainingError):
    """A pretrained model cannot be loaded from where the recipe says."""


class NoSuchParameters(TrainingError):
    """A glob of trainable parameters matches nothing."""


class SharedWeights(TrainingError):
    """An adapter is wanted on a layer whose weights another one uses as well."""


class WrongTensors(TrainingError):
    """Tensors differ in number or shape from the trainable parameters of the model."""


class CannotLoadTokenizer(TrainingError):
    """A tokenizer cannot be loaded from where the recipe says."""


class VocabularyTooSmall(TrainingError):
    """The tokenizer has ids that the model has no embedding for."""


class ContextTooLong(TrainingError):
    """Samples are longer than the positions of the model."""


class NothingMatches(TrainingError):
    """No file matches the globs of the recipe."""


class NotText(TrainingError):
    """A file of the corpus is no UTF-8 text."""


class BadSource(TrainingError):
    """A file or data set with examples cannot be read at all."""


class BadExamples(TrainingError):
    """Lines of the data cannot be used; the message says where and why."""


class BadChatTemplate(TrainingError):
    """A tokenizer's chat template cannot be used."""


class CorpusTooSmall(TrainingError):
    """A part of the corpus has less than one sample, or there are too few files to split."""


class ManifestError(TrainingError):
    """A corpus manifest cannot be trusted or used."""


class ManifestTooLarge(ManifestError):
    """More bytes than a manifest may have."""


class MalformedManifest(ManifestError):
    """The bytes are no manifest: no JSON, or a field unknown, missing, of a wrong type or out of bounds."""


class ManifestNotCanonical(ManifestError):
    """The bytes are a manifest in another spelling than the canonical one, so that its hash is not unique."""


class WrongShardSize(ManifestError):
    """The size of a shard is not its number of tokens times their width."""


class CorpusTooLarge(ManifestError):
    """More tokens than sample indices are meant for."""


class EmptySplit(ManifestError):
    """There is nothing to train on, or nothing held out to measure with."""


class SharedShard(ManifestError):
    """A shard is in two splits: the held-out loss would be of text that was trained on."""


class BadModelManifest(ManifestError):
    """A manifest of a model names files that are none of a model, or sizes that cannot be."""


class BadFrozenModel(TrainingError):
    """The files of a frozen model are damaged, of another model, or ask for code or weights from elsewhere."""


class MissingPackage(TrainingError):
    """Something optional is not installed."""


class TokenOutOfVocabulary(TrainingError):
    """A shard has a token id that the tokenizer does not have."""


class SampleOutOfRange(TrainingError):
    """A sample index is not below the number of samples."""


class NotEnoughSamples(TrainingError):
    """Fewer sample indices were given than the inner steps read."""


class BadInnerState(TrainingError):
    """Bytes of an inner optimiser do not belong to this model."""


class BadPrivateState(TrainingError):
    """The file of what only this peer has is damaged."""


class CannotCompile(TrainingError):
    """The recipe wants a compiled model, and this machine cannot make one."""


class TeacherDiffers(TrainingError):
    """Teacher and student do not number their tokens alike."""


class NoReference(TrainingError):
    """Preferences are to be learned, and there is no model to compare with."""


class NothingScored(TrainingError):
    """A row of a shard has nothing to predict, or the rows have another length than the recipe says."""


class Diverged(TrainingError):
    """The training loss is no number any more."""


class EmptyPrompt(TrainingError):
    """There is nothing to continue."""
