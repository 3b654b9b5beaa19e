import pytest

from replenish.errors import DigestMismatch, StoreError
from replenish.stores.registry import ModelRegistry

FILES = {"steps_01_07__mean__seed_1.txt": "tree\nversion=v4\n"}


@pytest.fixture
def registry(tmp_path):
    return ModelRegistry(tmp_path / "registry")


def test_a_stored_model_comes_back_as_it_was(registry):
    digest = registry.save_model(FILES, {"profile": "demo"})
    stored = registry.load_model(digest)
    assert (stored.files, stored.card) == (FILES, {"profile": "demo"})


def test_saving_the_same_model_twice_gives_one_digest(registry):
    assert registry.save_model(FILES, {}) == registry.save_model(dict(FILES), {})
    assert len(list((registry.root / "models").iterdir())) == 1


def test_a_changed_model_file_is_refused_before_anyone_parses_it(registry):
    digest = registry.save_model(FILES, {})
    (registry.root / "models" / digest / next(iter(FILES))).write_text("tree\nversion=evil\n")
    with pytest.raises(DigestMismatch):
        registry.load_model(digest)


def test_a_changed_manifest_is_refused_even_when_its_files_agree_with_it(registry):
    digest = registry.save_model(FILES, {"profile": "demo"})
    manifest = registry.root / "models" / digest / "manifest.json"
    manifest.write_text(manifest.read_text().replace("demo", "full"))
    with pytest.raises(DigestMismatch):
        registry.load_model(digest)


def test_the_previous_champion_is_kept_and_can_come_back(registry):
    first, second = registry.save_model(FILES, {"n": 1}), registry.save_model(FILES, {"n": 2})
    registry.promote(first, reason="first", decided_at="2025-02-04")
    registry.promote(second, reason="better", decided_at="2025-02-05")
    assert (registry.champion(), registry.previous_champion()) == (second, first)
    registry.roll_back(reason="worse in operation", decided_at="2025-02-06")
    assert registry.champion() == first


def test_the_promotion_history_only_grows(registry):
    first, second = registry.save_model(FILES, {"n": 1}), registry.save_model(FILES, {"n": 2})
    registry.promote(first, reason="first", decided_at="2025-02-04")
    registry.refuse(second, reason="worse", decided_at="2025-02-05")
    assert [(p.digest, p.decision) for p in registry.promotions()] == [(first, "promoted"), (second, "refused")]


def test_a_damaged_champion_falls_back_to_the_previous_one(registry):
    first, second = registry.save_model(FILES, {"n": 1}), registry.save_model(FILES, {"n": 2})
    registry.promote(first, reason="first", decided_at="2025-02-04")
    registry.promote(second, reason="better", decided_at="2025-02-05")
    (registry.root / "models" / second / next(iter(FILES))).unlink()
    stored, mode = registry.usable_model()
    assert (stored.digest, mode) == (first, "previous")


def test_a_past_origin_is_served_by_the_champion_of_its_day(registry):
    first, second = registry.save_model(FILES, {"n": 1}), registry.save_model(FILES, {"n": 2})
    registry.promote(first, reason="first", decided_at="2025-02-04")
    registry.promote(second, reason="better", decided_at="2025-02-06")
    found = {day: registry.usable_model(as_of=day) for day in ("2025-02-03", "2025-02-05", "2025-02-06")}
    assert found["2025-02-03"] == (None, "naive")
    assert found["2025-02-05"][0].digest == first
    assert found["2025-02-06"][0].digest == second


def test_without_any_usable_model_the_mode_is_naive(registry):
    assert registry.usable_model() == (None, "naive")
    digest = registry.save_model(FILES, {})
    registry.promote(digest, reason="first", decided_at="2025-02-04")
    (registry.root / "champion.json").write_text("{")
    assert registry.usable_model() == (None, "naive")


def test_a_model_that_does_not_verify_cannot_be_promoted(registry):
    digest = registry.save_model(FILES, {})
    (registry.root / "models" / digest / next(iter(FILES))).write_text("damaged")
    with pytest.raises(DigestMismatch):
        registry.promote(digest, reason="first", decided_at="2025-02-04")
    assert registry.champion() is None


def test_a_digest_never_names_a_path_outside_the_registry(registry):
    with pytest.raises(StoreError):
        registry.load_model("../../etc")
