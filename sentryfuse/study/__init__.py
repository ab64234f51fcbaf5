"""The comparison with baselines: a frozen design comes in, one line per cell and method goes out.

`design` says what is compared, `lines` what a result line holds, `jobs` what there is to do and under which
key, `masks` which windows and sensors, `methods` how a model is made smaller, `cells` what it then answers.
`tasks` runs one job in a process, `executors` sends jobs to processes or to Ray, `runner` keeps the order,
`store` the results, `verify` computes some of them again; `repair` corrects sliced weights, `report` makes
the page. More than eight files, because each is one of these steps.
"""
