"""Options in a name: shown by the lists' commands, given to models, and swept over."""

from kit import MODEL, cases, refused, said_by

from rimsim.agents import make_agent
from rimsim.config.reading import find_scenario, read_scenario
from rimsim.errors import ConfigError
from rimsim.intensity.registry import make, mark_and_ground
from rimsim.plugs import named_options
from rimsim.scenarios import load_run
from rimsim.scenarios.cli.main import main


@cases(
    "words output",
    ("agents rim-feedback", "  gain=0.1"),
    ("agents random", "No options."),
    ("models gru-hp", "  width=64"),
    ("models gru-hp", "  windows=4"),
    ("arrivals hawkes", "  kappa=0.0"),
    ("providers viability", "  decay=0.9                    δ: share of satisfaction that remains"),
    ("measures gini", "Gini of exposure: Σ_i"),
)
def test_a_name_shows_its_options_and_defaults(words, output, capsys):
    """The lists' commands take a name and say what it is and takes."""
    assert output in said_by(capsys, words).out


def test_a_scenario_is_shown_as_yaml_to_start_from(tmp_path, capsys):
    """The file that it makes is the scenario."""
    path = tmp_path / "mine.yaml"
    path.write_text(said_by(capsys, "scenarios campaigns").out)
    assert read_scenario(path) == find_scenario("campaigns")


def test_options_of_models_reach_mark_and_ground(write):
    """Each goes to the part that has it and stays when the run sets seed and device; a model of one's own has them."""
    model = make("gru-hp(width=8,windows=2,session_gap='2h')", seed=3, device="cpu", gap="1h")
    assert (model.mark.config.width, model.mark.config.seed, model.mark.config.session_gap) == (8, 3, "2h")
    assert model.ground.config.windows == 2
    assert mark_and_ground("gru-hp(width=8,windows=2)") == ("gru(width=8)", "hp(windows=2)")
    write(MODEL.replace("device):\n        pass", "device, smooth=1):\n        self.smooth = smooth"))
    assert make("mine.py:Mine(smooth=5)").smooth == 5
    for name, message in (
        ("gru(widht=8)", "model gru: unknown field 'widht'. Did you mean 'width'"),
        ("bag(width=0)", "field 'width' is 0"),
        ("bag(8)", "the options cannot be read"),
        ("als(algorithm='bpr')", "name already sets the option algorithm"),
        ("mine.py:Mine(smoth=5)", "has no option 'smoth'. Did you mean 'smooth'"),
    ):
        refused(ConfigError, message, make, name)


@cases(
    "text options",
    ("outage(every=1d, lasts=4h)", {"every": "1d", "lasts": "4h"}),
    ("outage(lasts=1.5h,every='1d 12h')", {"lasts": "1.5h", "every": "1d 12h"}),
    ("demand(factor=1e3, lasts=1d 12h)", {"factor": 1000.0, "lasts": "1d 12h"}),
    (
        "demand(column=genres, values=[Comedy, 'Sci-Fi'])",
        {"column": "genres", "values": ["Comedy", "Sci-Fi"]},
    ),
    ("demand(values=['every=6h'], lasts=2d)", {"values": ["every=6h"], "lasts": "2d"}),
)
def test_a_duration_needs_no_quotes(text, options):
    """A number with a unit is read as text; quoted values stay as they are."""
    assert named_options(text, "processes")[1] == options


def test_a_sweep_over_a_models_option_has_a_point_each(tmp_path):
    """``--grid`` keeps commas within brackets; the options are in the table, and the fits differ."""
    short = "--rounds 1 --seeds 1 --workers 1 --no-certificate --set data.min_item_events=120 --set slate=5"
    short += " --set consumer.truth=gru"
    grid = "platform.model=popularity(smoothing=0.1),popularity(smoothing=9.0,device='cpu')"
    line = [
        "sweep",
        *short.split(),
        "--set",
        "arrivals.per_round=60",
        "--agents",
        "relevance",
        "--grid",
        grid,
    ]
    assert main([*line, "--out", str(tmp_path / "run")]) == 0
    models = set(load_run(tmp_path / "run").sweep["model"])
    assert models == {"popularity(smoothing=0.1)", "popularity(smoothing=9.0,device='cpu')"}


def test_an_agent_whose_name_cannot_be_set_is_told(write):
    """Options become part of the name, so a property of that name is refused in a sentence."""
    write(
        "from rimsim.agents import Random\n\n\nclass Mine(Random):\n    def __init__(self, a=1):\n        pass\n\n"
        "    @property\n    def name(self):\n        return 'mine'\n"
    )
    refused(ConfigError, "name cannot be changed", make_agent, "mine.py:Mine(a=2)")
