# hark: build, run, test, install. Every target uses the release profile in one target directory.
#
#   make run        listen to the microphone; without one, play the demo clip
#   make test       run all tests
#   make install    install under PREFIX (default /usr/local); DESTDIR is honoured

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= cargo
# More arguments for `hark run`, as in: make run ARGS='--json'
ARGS    ?=

HARK     := target/release/hark
CLIP     := models/demo.flac
# User units below the home directory are searched for under share, all others under lib.
UNITDIR  ?= $(if $(filter $(HOME)/.local,$(PREFIX)),$(PREFIX)/share/systemd/user,$(PREFIX)/lib/systemd/user)
BUSDIR   := $(PREFIX)/share/dbus-1/services
BASHDIR  := $(PREFIX)/share/bash-completion/completions
ZSHDIR   := $(PREFIX)/share/zsh/site-functions
FISHDIR  := $(PREFIX)/share/fish/vendor_completions.d
MANDIR   := $(PREFIX)/share/man/man1
DOCDIR   := $(PREFIX)/share/doc/harkd

BUILD_PACKAGES := gcc libc6-dev libasound2-dev pkg-config
TEST_PACKAGES  := pulseaudio pulseaudio-utils libasound2-plugins dbus espeak-ng procps systemd
DEMO_PACKAGES  := espeak-ng flac
TRAIN_PACKAGES := espeak-ng python3 python3-venv
GOLDEN_PACKAGES := python3 python3-venv

# The reference libraries that published checkpoints are compared with.
GOLDEN   := target/golden
TIMER    := target/release/examples/time_model

# Where training finds its data and its teachers.
DATA     ?= ../shared/data
TEACHERS := target/teachers
TEACH    := $(TEACHERS)/bin/python models/teachers/teacher.py
# One thread in the tensor library, which is faster here than two; large blocks stay with the program.
TRAIN    := RAYON_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296 $(HARK) train --data $(DATA)

# Installs the Debian packages of $(1) that are missing; the package lists are only fetched when
# the first try shows that they are needed. Elsewhere it names them and goes on.
define packages
@missing=''; \
for package in $(1); do \
    dpkg-query -W -f='$${Status}' "$$package" 2>/dev/null | grep -q 'ok installed' \
        || missing="$$missing $$package"; \
done; \
if [ -z "$$missing" ]; then exit 0; fi; \
if ! command -v apt-get >/dev/null; then \
    echo "make: no apt-get here; if the next step fails, install what these Debian packages hold:$$missing" >&2; \
    exit 0; \
fi; \
if [ "$$(id -u)" -eq 0 ]; then as_root=''; else as_root=sudo; fi; \
apt="$$as_root env DEBIAN_FRONTEND=noninteractive apt-get"; \
echo "make: installing$$missing" >&2; \
$$apt install -y -q --no-install-recommends --no-remove $$missing \
    || { $$apt update -q && $$apt install -y -q --no-install-recommends --no-remove $$missing; }
endef

.PHONY: all build run test lint bench peers peers-models time-model latency calibrate-figures golden golden-full taught-background taught-figures taught-unseen demo train-keyword train-event train-clap install uninstall clean build-packages test-packages

all: build

build: build-packages
	$(CARGO) build --release

run: build
	@if $(HARK) devices --json 2>/dev/null | grep -q .; then \
	    exec $(HARK) run $(ARGS); \
	else \
	    echo 'make: no microphone on this machine; playing $(CLIP) through the same pipeline' >&2; \
	    exec $(HARK) run --source file:$(CLIP) --realtime --bus none --json --quiet $(ARGS); \
	fi

test: test-packages
	$(CARGO) test --release

lint: build-packages
	$(CARGO) fmt --check
	$(CARGO) clippy --release --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --release --no-deps

bench: build
	$(HARK) bench

# The same beside YAMNet in LiteRT, in one run.
peers: build time-model $(TEACHERS)/ready
	$(TEACHERS)/bin/python benches/peers/listen.py $(HARK) $(DATA)/models/yamnet.tflite
	$(TEACHERS)/bin/python benches/peers/yamnet.py $(TIMER) $(DATA)/models/yamnet.tflite

# The published sizes beside torch, random weights, in one run; some gigabytes of packages and disk.
peers-models: time-model $(GOLDEN)/ready
	$(GOLDEN)/bin/python benches/peers/models.py $(TIMER)

time-model: build-packages
	$(CARGO) build --release --example time_model

# From sound to D-Bus signal, through a real sound server and bus.
latency: build test-packages $(TEACHERS)/ready
	$(TEACHERS)/bin/python benches/latency.py $(HARK) $(DATA)

# False accepts and what is found, before and after calibrating on other sound.
calibrate-figures: build $(TEACHERS)/ready
	$(TEACHERS)/bin/python benches/calibrate.py $(HARK) $(DATA)

# Makes the golden fixtures of tests/golden anew.
golden: $(GOLDEN)/ready
	$(GOLDEN)/bin/python tests/golden/generate.py

# Compares the published sizes, with random weights, with the reference libraries.
golden-full: build $(GOLDEN)/ready
	$(GOLDEN)/bin/python tests/golden/full.py $(HARK)

$(GOLDEN)/ready: tests/golden/requirements.txt
	$(call packages,$(GOLDEN_PACKAGES))
	python3 -m venv $(GOLDEN)
	$(GOLDEN)/bin/pip install --quiet -r $<
	touch $@

$(TEACHERS)/ready: models/teachers/requirements.txt
	$(call packages,$(TRAIN_PACKAGES))
	python3 -m venv $(TEACHERS)
	$(TEACHERS)/bin/pip install --quiet -r $<
	touch $@

# Trains the keyword model in its three stages; the weights end in target/train/keyword-3.
train-keyword: build $(TEACHERS)/ready
	$(TRAIN) --base hark-keyword --out target/train/keyword-1 --rounds 40 --first 6000 --fresh 3000 	    --teacher '$(TEACH) $(DATA)/models/kwt1.tflite'
	$(TRAIN) --base target/train/keyword-1/model.safetensors --out target/train/keyword-2 --rounds 16 	    --first 5000 --fresh 3000 --learning-rate 1.5e-3 --seed 2 --teacher '$(TEACH) $(DATA)/models/kwt1.tflite'
	$(TRAIN) --base target/train/keyword-2/model.safetensors --out target/train/keyword-3 --rounds 10 	    --first 5000 --fresh 3000 --learning-rate 1e-3 --seed 3 --keep-base 0.5 	    --teacher '$(TEACH) $(DATA)/models/kwt1.tflite'

# Trains the event model, fold 4 of ESC-10 held out; the weights end in target/train/event.
train-event: build $(TEACHERS)/ready
	$(TRAIN) --base hark-event --hold-fold 4 --out target/train/event --rounds 40 --steps 150 	    --first 5000 --fresh 2500 --teacher '$(TEACH) $(DATA)/models/yamnet.tflite'

# Makes the tables of background that taught sounds are told from; after every training, for they hold
# for one set of weights.
taught-background: build-packages
	$(CARGO) build --release --example taught_background
	target/release/examples/taught_background hark-event sound $(DATA) models/background-event.safetensors
	target/release/examples/taught_background hark-keyword word $(DATA) models/background-keyword.safetensors

# Sounds that the event network below has never heard, taught from five clips each.
UNSEEN := baby_cry dog crackling_fire sea_waves sneezing rooster
WORDS  := amelia athena snowboy view_glass smart_mirror
FIGURES := target/release/examples/taught_figures

# Recall of taught sounds at one false accept an hour, of the network without the sounds, of YAMNet, and
# of words that have no label.
taught-figures: build-packages taught-unseen
	$(CARGO) build --release --example taught_figures
	$(FIGURES) target/train/event-unseen/model.safetensors sound $(DATA) 5 $(UNSEEN)
	$(FIGURES) $(DATA)/models/yamnet.tflite sound $(DATA) 5 $(UNSEEN)
	$(FIGURES) hark-keyword word $(DATA) 5 $(WORDS)

# The event network trained as it ships, without any clip of the sounds.
taught-unseen: target/train/event-unseen/model.safetensors

target/train/event-unseen/model.safetensors: build $(TEACHERS)/ready
	mkdir -p target/train/unseen
	for set in digits keywords wakewords speech noise events; do \
	    ln -sfn $(abspath $(DATA))/$$set target/train/unseen/$$set; \
	done
	grep -Ev '^events/($(subst $() ,|,$(UNSEEN)))/' $(DATA)/manifest.csv > target/train/unseen/manifest.csv
	RAYON_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296 \
	    $(HARK) train --data target/train/unseen --base hark-event --out target/train/event-unseen \
	    --rounds 40 --steps 150 --first 5000 --fresh 2500 --teacher '$(TEACH) $(DATA)/models/yamnet.tflite'

# Trains a small CLAP from random weights in two goes. Six sounds are never heard, nor the chickens, whose
# AudioSet name says rooster. The model ends in target/train/clap.
TRAIN_CLAP := --objective clap --sets events --made 20 --bend 1 --ontology $(DATA)/meta/audioset_ontology.json \
    --hold-out rooster chicken helicopter sneezing church_bells 'Church bell' sea_waves thunder
train-clap: build
	$(TRAIN) $(TRAIN_CLAP) --base small-clap --dropout --steps 1000 --out target/train/clap-first
	$(TRAIN) $(TRAIN_CLAP) --base target/train/clap-first --freeze none --steps 600 --warm-up 30 \
	    --learning-rate 0.0008 --out target/train/clap

# Makes the demo clip anew: synthesised sounds and espeak-ng speech, nothing recorded.
demo: build-packages
	$(call packages,$(DEMO_PACKAGES))
	$(CARGO) run --release --example demo -- target/demo.wav
	flac --best --silent --force --output-name=$(CLIP) target/demo.wav

# Built by `make` beforehand where installing needs rights that building does not.
install:
	@test -x $(HARK) || $(MAKE) build
	install -D -s -m 755 $(HARK) '$(DESTDIR)$(PREFIX)/bin/hark'
	install -d '$(DESTDIR)$(UNITDIR)' '$(DESTDIR)$(BUSDIR)' '$(DESTDIR)$(BASHDIR)' '$(DESTDIR)$(ZSHDIR)' \
	    '$(DESTDIR)$(FISHDIR)' '$(DESTDIR)$(MANDIR)' '$(DESTDIR)$(DOCDIR)'
	sed '/^Exec/s|@BINDIR@|$(PREFIX)/bin|g' systemd/hark.service > '$(DESTDIR)$(UNITDIR)/hark.service'
	sed '/^Exec/s|@BINDIR@|$(PREFIX)/bin|g' systemd/org.harkd.Hark1.service > '$(DESTDIR)$(BUSDIR)/org.harkd.Hark1.service'
	$(HARK) completions bash > '$(DESTDIR)$(BASHDIR)/hark'
	$(HARK) completions zsh > '$(DESTDIR)$(ZSHDIR)/_hark'
	$(HARK) completions fish > '$(DESTDIR)$(FISHDIR)/hark.fish'
	$(HARK) man '$(DESTDIR)$(MANDIR)'
	install -m 644 README.md LICENSE config/default.toml '$(DESTDIR)$(DOCDIR)'

uninstall:
	rm -f '$(DESTDIR)$(PREFIX)/bin/hark' '$(DESTDIR)$(UNITDIR)/hark.service' \
	    '$(DESTDIR)$(BUSDIR)/org.harkd.Hark1.service' '$(DESTDIR)$(BASHDIR)/hark' \
	    '$(DESTDIR)$(ZSHDIR)/_hark' '$(DESTDIR)$(FISHDIR)/hark.fish' \
	    '$(DESTDIR)$(MANDIR)'/hark.1 '$(DESTDIR)$(MANDIR)'/hark-*.1
	rm -rf '$(DESTDIR)$(DOCDIR)'

clean:
	$(CARGO) clean

build-packages:
	$(call packages,$(BUILD_PACKAGES))

test-packages:
	$(call packages,$(BUILD_PACKAGES) $(TEST_PACKAGES))
