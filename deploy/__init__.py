"""`make deploy`: checks a deployment against the AWS account, prints the changes, and runs `sam deploy`.

`python -m deploy dev` deploys the output of `sam build` in `.aws-sam/build` with the section `dev` of samconfig.toml.
"""
