"""The reference libraries, imported so that they run on a machine without CUDA and say nothing.

Import this before transformers or speechbrain anywhere else.
"""

import os

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

# torchaudio refuses a torch that was built for another CUDA release, though all that is used of it
# here is Python on the CPU.
torch.version.cuda = None

import torchaudio
import torchaudio.compliance.kaldi
import speechbrain
import transformers

transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(2)
torch.set_grad_enabled(False)

VERSIONS = {
    "torch": torch.__version__,
    "torchaudio": torchaudio.__version__,
    "transformers": transformers.__version__,
    "speechbrain": speechbrain.__version__,
}
