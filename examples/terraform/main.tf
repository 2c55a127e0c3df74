# Deploys billing-watch from Terraform. Copy this file into a folder with the zip file and
# template-cloudformation.json of a release, set the variables, and run `terraform init` and
# `terraform apply`. Then connect the log bucket and confirm the subscriptions: docs/deploy.md.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "code_bucket" {
  description = "Bucket for the function's code, in the Region of the stack."
  type        = string
}

variable "log_bucket" {
  description = "Bucket with the log files of CloudTrail, in the same account and Region."
  type        = string
}

variable "alert_email" {
  description = "Address that gets alerts."
  type        = string
}

variable "alarm_email" {
  description = "Address that gets alarms of billing-watch itself."
  type        = string
}

locals {
  code     = one(fileset(path.module, "billing-watch-[0-9]*-x86_64.zip"))
  template = "template-cloudformation.json"
}

resource "aws_s3_object" "code" {
  bucket      = var.code_bucket
  key         = local.code
  source      = "${path.module}/${local.code}"
  source_hash = filesha256("${path.module}/${local.code}")
}

# CloudFormation takes a template of this size only from a bucket.
resource "aws_s3_object" "template" {
  bucket = var.code_bucket
  # A new key makes CloudFormation read a changed template.
  key    = "billing-watch-${filesha256("${path.module}/${local.template}")}.json"
  source = "${path.module}/${local.template}"
}

data "aws_s3_bucket" "code" {
  bucket = var.code_bucket
}

resource "aws_cloudformation_stack" "billing_watch" {
  name         = "billing-watch"
  template_url = "https://${data.aws_s3_bucket.code.bucket_regional_domain_name}/${aws_s3_object.template.key}"
  capabilities = ["CAPABILITY_IAM"]

  parameters = {
    CodeBucket    = var.code_bucket
    CodeKey       = aws_s3_object.code.key
    Trigger       = "eventbridge"
    LogBucketName = var.log_bucket
    AlertEmail    = var.alert_email
    AlarmEmail    = var.alarm_email
  }
}

output "stack_outputs" {
  description = "Outputs of the stack, such as AlertTopicArn."
  value       = aws_cloudformation_stack.billing_watch.outputs
}
