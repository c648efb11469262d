"""The built-in environments. They register through the entry point that any package can use."""

from hare_gym.registry import register_environment


def register() -> None:
    """Registers every built-in environment."""
    bilinear = ("hare_gym.envs.bilinear:HareBilinear", "hare_gym.envs.bilinear:HareBilinearVector")
    register_environment("HareBilinear-v0", *bilinear)
    register_environment("HareLinear-v0", *bilinear, kwargs={"nonlinearity": 0.0})
    register_environment("HareMoods-v0", "hare_gym.envs.moods:HareMoods")
    register_environment("HareClassification-v0", "hare_gym.envs.classification:HareClassification")
    register_environment("HareReplay-v0", "hare_gym.envs.replay:HareReplay")
    register_environment("HareSkills-v0", "hare_gym.envs.skills:HareSkills", "hare_gym.envs.skills:HareSkillsVector")
    register_environment("HareRecipe-v0", "hare_gym.envs.recipe:HareRecipe", "hare_gym.envs.recipe:HareRecipeVector")
    study_plan = ("hare_gym.envs.study_plan:HareStudyPlan", "hare_gym.envs.study_plan:HareStudyPlanVector")
    register_environment("HareStudyPlan-v0", *study_plan)
    prompts = ("hare_gym.envs.prompts:HarePrompts", "hare_gym.envs.prompts:HarePromptsVector")
    register_environment("HarePrompts-v0", *prompts)
    for number in range(1, 8):
        lamp = ("hare_gym.envs.lamp:HareLaMP", "hare_gym.envs.lamp:HareLaMPVector")
        register_environment(f"HareLaMP{number}-v0", *lamp, kwargs={"number": number})
