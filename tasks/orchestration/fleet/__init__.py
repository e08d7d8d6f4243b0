"""A fleet: one run by many processes of a Prefect work pool, each the ordinary job over a shard of the images.

    manifest   what the run is and which images each shard has, frozen in the output
    reports    what a shard tells of itself, and what it is told: two small files of the output for each
    granting   one set of limits over all: who may have how much of it now
    work_pool  Prefect's part: the work pool, the deployment, the flow runs
    shard      within a shard: opening it, keeping in touch, handing in
    parent     the run that waits for them: who lives, who died, who has to be started again

Nothing passes between processes but files below OUTPUT/.visionflow, so that neither Prefect's server nor the parent
has to be there for a shard to go on.
"""
