"""Writes audioset-ontology.tsv from ontology.json of AudioSet: python3 audioset-ontology.py ontology.json

Of the ontology it keeps the machine ids, the display names and which sound is a kind of which; of its
descriptions nothing. The words by which people call a sound are the parts of its name between commas,
without what stands in parentheses, and those of the two tables below, which were written for this file. Words
after a ~ are for something else that the sound is heard with: its label may answer them, but it is not
what they mean.
"""

import json
import re
import sys
from pathlib import Path

HEAD = """\
# Sounds of AudioSet: machine id, display name, ids of what it is a kind of, words for it.
# Ids, names and hierarchy: AudioSet ontology, Google, CC BY-SA 4.0 (github.com/audioset/ontology); so is
# this table. Words: this project; after a ~ those that the sound only answers, where nothing means them.
# Written by audioset-ontology.py.
"""

# Instead of the parts of the name, where those mean something else by themselves.
INSTEAD = {
    "Acoustic environment": [],
    "Bass (frequency range)": [],
    "Bass (instrument role)": [],
    "Bay": ["dog baying"],
    "Beat": ["beat of music"],
    "Bellow": ["bellow", "person bellowing"],
    "Boat, Water vehicle": ["boat", "water vehicle"],
    "Brief tone": ["brief tone", "tone"],
    "Canidae, dogs, wolves": ["canine", "wolf"],
    "Change ringing (campanology)": ["change ringing"],
    "Channel, environment and background": [],
    "Chop": ["wood chopping", "chopping wood"],
    "Chopping (food)": ["food chopping", "chopping vegetables", "cutting vegetables"],
    "Chord": ["musical chord"],
    "Coin (dropping)": ["coin", "dropping coin", "coins falling"],
    "Country": ["country music"],
    "Deformable shell": [],
    "Digestive": ["digestive sound"],
    "Drone": ["drone music"],
    "Dub": ["dub music"],
    "Electro": ["electro music"],
    "Fill (with liquid)": ["filling with liquid", "filling a glass", "filling a bottle"],
    "Filing (rasp)": ["filing metal", "rasp"],
    "Frying (food)": ["frying", "frying food", "frying pan", "bacon frying"],
    "Funk": ["funk music"],
    "Generic impact sounds": ["impact"],
    "Hands": ["hand sound"],
    "Harmonic": [],
    "Harmony": ["musical harmony"],
    "Howl (wind)": ["wind howling", "howling wind"],
    "Human group actions": [],
    "Inside, large room or hall": ["large room", "hall"],
    "Inside, public space": ["public space"],
    "Inside, small room": ["small room"],
    "Jingle (music)": ["advertising jingle"],
    "Keyboard (musical)": ["musical keyboard", "keyboard instrument"],
    "Loop": ["musical loop"],
    "Miscellaneous sources": [],
    "Music role": [],
    "Music mood": [],
    "Musical concepts": [],
    "Natural sounds": ["nature"],
    "Onomatopoeia": [],
    "Other sourceless": [],
    "Otoacoustic emission": ["otoacoustic emission"],
    "Outside, rural or natural": ["countryside", "rural outdoors"],
    "Outside, urban or manmade": ["city street", "urban outdoors"],
    "Power windows, electric windows": ["power window", "electric window", "car window"],
    "Pump (liquid)": ["pump", "water pump"],
    "Rattle (instrument)": ["rattle instrument"],
    "Ringing (of resonator)": [],
    "Roaring cats (lions, tigers)": ["lion", "tiger", "roaring cat", "big cat"],
    "Roll": ["rolling"],
    "Run": ["run", "someone running", "running footsteps", "jogging"],
    "Scratching (performance technique)": ["record scratching", "turntable scratching"],
    "Snort (horse)": ["horse snorting"],
    "Soundtrack music": ["soundtrack", "film music"],
    "Sounds of things": [],
    "Source-ambiguous sounds": [],
    "Specific impact sounds": [],
    "Surface contact": [],
    "Tapping (guitar technique)": ["guitar tapping"],
    "Whimper (dog)": ["dog whimpering"],
    "Wind noise (microphone)": ["wind noise", "microphone wind noise"],
}

# Beside the parts of the name.
ALSO = {
    "Accelerating, revving, vroom": ["engine revving", "engine accelerating", "car accelerating"],
    "Air conditioning": ["air conditioner", "aircon"],
    "Aircraft": ["plane passing by"],
    "Alarm clock": ["alarm clock ringing", "alarm clock beeping"],
    "Ambulance (siren)": ["ambulance siren"],
    "Applause": ["audience clapping", "people clapping"],
    "Baby cry, infant cry": ["crying infant", "newborn crying"],
    "Baby laughter": ["baby laughing", "baby giggling"],
    "Bark": ["woof"],
    "Bathtub (filling or washing)": ["bath filling"],
    "Beep, bleep": ["electronic beep"],
    "Bell": ["bell ringing", "ringing bell"],
    "Bicycle bell": ["bike bell"],
    "Bicycle": ["bike", "cycling"],
    "Bird": ["~birdsong", "~bird singing"],
    "Bird vocalization, bird call, bird song": ["birdsong", "bird singing", "bird calling"],
    "Bee, wasp, etc.": ["hornet", "bumblebee"],
    "Blender": ["food blender", "kitchen mixer"],
    "Boiling": ["boiling water", "water boiling", "kettle boiling"],
    "Breathing": ["heavy breathing"],
    "Burping, eructation": ["belch"],
    "Car": ["automobile", "car driving"],
    "Car passing by": ["passing car", "car driving past"],
    "Cat": ["kitten"],
    "Caterwaul": ["cat fight", "cats fighting"],
    "Cattle, bovinae": ["cow", "cows", "bull"],
    "Cellphone buzz, vibrating alert": ["phone vibrating", "phone buzzing", "vibrating phone"],
    "Chainsaw": ["chain saw"],
    "Chatter": ["people chatting"],
    "Cheering": ["crowd cheering"],
    "Chewing, mastication": ["eating"],
    "Chicken, rooster": ["hen", "cock", "cockerel"],
    "Chink, clink": ["glass clinking", "clinking glasses", "toasting glasses"],
    "Chirp, tweet": ["bird chirping", "bird tweeting"],
    "Clapping": ["hand clapping", "clapping hands"],
    "Clip-clop": ["hooves", "hoofbeats"],
    "Clock": ["wall clock"],
    "Computer keyboard": ["keyboard typing", "typing on a keyboard", "keyboard clicking", "keystrokes"],
    "Conversation": ["people talking", "people speaking", "two people talking", "dialogue"],
    "Cough": ["person coughing"],
    "Crackle": ["fire crackling"],
    "Creak": ["creaking floor", "creaking floorboard", "door creaking", "creaking door"],
    "Cricket": ["crickets chirping"],
    "Crowing, cock-a-doodle-doo": ["~rooster", "~cockerel", "rooster crowing", "rooster call"],
    "Crying, sobbing": ["weeping"],
    "Cutlery, silverware": ["fork", "knife and fork", "spoons"],
    "Ding-dong": ["doorbell chime"],
    "Dishes, pots, and pans": ["plates", "crockery", "dishes clattering", "washing dishes", "pots and pans"],
    "Dog": ["puppy"],
    "Door": ["door opening", "door closing", "opening a door"],
    "Doorbell": ["door bell", "doorbell ringing", "door chime"],
    "Drill": ["drilling", "power drill", "electric drill"],
    "Drip": ["dripping water", "water dripping", "dripping tap", "leak", "leaking water"],
    "Electric shaver, electric razor": ["shaver"],
    "Emergency vehicle": ["emergency vehicle siren"],
    "Engine": ["motor", "car engine"],
    "Engine starting": ["car starting"],
    "Explosion": ["blast", "detonation"],
    "Female speech, woman speaking": ["woman talking", "woman voice", "female voice"],
    "Fire": ["flames", "campfire", "fireplace", "burning wood"],
    "Fire alarm": ["fire alarm bell"],
    "Fire engine, fire truck (siren)": ["fire engine siren", "fire truck siren"],
    "Fixed-wing aircraft, airplane": ["plane", "aeroplane", "airliner"],
    "Fireworks": ["rocket exploding"],
    "Fly, housefly": ["fly buzzing", "buzzing fly"],
    "Frog": ["toad"],
    "Glass": ["glasses"],
    "Gunshot, gunfire": ["gun", "shot", "shots", "shooting", "pistol", "rifle", "gun shot"],
    "Hair dryer": ["hairdryer", "blow dryer", "hair drier"],
    "Hammer": ["hammering", "hammering nails"],
    "Helicopter": ["chopper"],
    "Hiccup": ["hiccough"],
    "Honk": ["goose honking"],
    "Horse": ["pony"],
    "Hum": ["humming noise"],
    "Insect": ["bug"],
    "Keys jangling": ["keys", "bunch of keys", "keys rattling", "keys jingling"],
    "Kettle whistle": ["kettle", "whistling kettle"],
    "Knock": ["door knock", "door knocking", "knocking on wood"],
    "Laughter": ["laugh", "people laughing"],
    "Lawn mower": ["lawnmower", "mowing the lawn", "grass mower"],
    "Male speech, man speaking": ["man talking", "man voice", "male voice"],
    "Mechanical fan": ["fan", "ventilator", "electric fan"],
    "Meow": ["miaow", "mew", "cat meowing"],
    "Microwave oven": ["microwave", "microwave beeping"],
    "Mosquito": ["gnat"],
    "Motorcycle": ["motorbike", "moped", "scooter"],
    "Music": ["~song", "musical", "tune"],
    "Narration, monologue": ["someone reading aloud", "audiobook"],
    "Neigh, whinny": ["horse neighing"],
    "Noise": ["noise"],
    "Ocean": ["sea"],
    "Organ": ["pipe organ", "church organ"],
    "Packing tape, duct tape": ["adhesive tape", "sticky tape"],
    "Pant": ["panting dog", "panting"],
    "Piano": ["playing the piano", "grand piano"],
    "Police car (siren)": ["police siren", "police car siren"],
    "Pour": ["pouring water", "water pouring", "pouring a drink"],
    "Printer": ["printing"],
    "Purr": ["cat purring"],
    "Radio": ["radio playing"],
    "Rain": ["rainfall", "raining", "downpour", "drizzle", "rain falling"],
    "Rain on surface": ["rain on roof", "rain on window", "rain on glass"],
    "Raindrop": ["rain drop"],
    "Reversing beeps": ["reversing truck", "truck reversing", "backup beeper"],
    "Ringtone": ["phone ringtone", "mobile phone ringing", "cellphone ringing"],
    "Rodents, rats, mice": ["rodent", "rat"],
    "Rustle": ["rustling paper", "rustling clothes", "paper rustling", "clothes rustling"],
    "Rustling leaves": ["leaves rustling"],
    "Sawing": ["hand saw", "sawing wood"],
    "Screaming": ["scream", "shriek"],
    "Shatter": ["glass breaking", "broken glass", "glass shattering", "smashing glass", "window breaking",
                "shattered window"],
    "Shout": ["shouting", "someone shouting"],
    "Singing": ["~song", "someone singing", "singing voice"],
    "Silence": ["nothing", "complete silence", "quiet"],
    "Sink (filling or washing)": ["kitchen sink"],
    "Siren": ["wailing siren"],
    "Skateboard": ["skateboarding"],
    "Slam": ["door slam", "door slamming"],
    "Smoke detector, smoke alarm": ["smoke alarm beeping", "carbon monoxide alarm", "co alarm",
                                    "smoke alarm chirping"],
    "Snoring": ["snore"],
    "Speech": ["talking", "speaking", "voice", "voices", "someone speaking", "spoken words", "~human voice"],
    "Speech synthesizer": ["synthetic voice", "robot voice", "synthesised speech"],
    "Splash, splatter": ["splashing water", "water splashing"],
    "Squeak": ["squeaking door", "squeaky door"],
    "Stream": ["brook", "river", "creek"],
    "Subway, metro, underground": ["subway train", "underground train"],
    "Telephone": ["phone"],
    "Telephone bell ringing": ["phone ringing", "ringing phone", "telephone ringing"],
    "Television": ["tv", "television playing"],
    "Throat clearing": ["clearing throat"],
    "Thunder": ["thunderclap", "thunder rumbling", "thunder and lightning"],
    "Thunderstorm": ["thunder storm"],
    "Tick-tock": ["clock ticking", "ticking clock"],
    "Toilet flush": ["toilet", "flushing toilet"],
    "Toothbrush": ["brushing teeth"],
    "Traffic noise, roadway noise": ["traffic", "road noise", "street traffic"],
    "Train": ["train passing by", "locomotive"],
    "Truck": ["lorry"],
    "Typing": ["someone typing"],
    "Vacuum cleaner": ["vacuum", "vacuuming", "hoover", "hoovering"],
    "Vehicle horn, car horn, honking": ["car honking", "honking car", "horn of a car", "vehicle horn"],
    "Walk, footsteps": ["footstep", "steps", "walking", "walking person", "footfall"],
    "Water": ["flowing water", "~running water", "~water running", "~running tap", "~tap running",
              "~faucet running", "~faucet", "~tap water", "~shower", "~shower running", "~bath filling",
              "~sink filling"],
    "Water tap, faucet": ["running water", "water running", "tap running", "running tap", "tap water",
                          "faucet running"],
    "Waves, surf": ["waves breaking", "ocean waves", "sea waves", "waves on the beach"],
    "Whispering": ["whisper"],
    "Whistle": ["referee whistle"],
    "Wind": ["windy", "breeze", "wind blowing"],
    "Wind chime": ["windchime"],
    "Writing": ["pen on paper", "pencil on paper"],
    "Yell": ["someone yelling"],
    "Zipper (clothing)": ["zip"],
}


def words(name):
    if name in INSTEAD:
        return INSTEAD[name]
    plain = re.sub(r"\([^)]*\)", "", name).lower()
    parts = [part.strip().removeprefix("and ") for part in plain.split(",")]
    parts = [part for part in parts if part and part != "etc."]
    return list(dict.fromkeys(parts + ALSO.get(name, [])))


def main():
    sounds = json.loads(Path(sys.argv[1]).read_text())
    names = {sound["name"] for sound in sounds}
    unknown = [name for name in [*INSTEAD, *ALSO] if name not in names]
    if unknown:
        sys.exit(f"not in the ontology: {unknown}")
    if both := INSTEAD.keys() & ALSO.keys():
        sys.exit(f"in both tables: {both}")
    parents = {sound["id"]: [] for sound in sounds}
    for sound in sounds:
        for child in sound["child_ids"]:
            parents[child].append(sound["id"])
    rows = [
        "\t".join((s["id"], s["name"], ",".join(parents[s["id"]]), ";".join(words(s["name"]))))
        for s in sounds
    ]
    Path(__file__).with_suffix(".tsv").write_text(HEAD + "\n".join(rows) + "\n")


main()
