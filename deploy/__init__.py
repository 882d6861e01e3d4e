"""`make deploy`: checks a deployment against the AWS account, says what it will do, and has SAM do it.

`python -m deploy dev` deploys what `sam build` left in `.aws-sam/build` as the section `dev` of samconfig.toml.
"""
